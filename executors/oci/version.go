package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/stele-runtime/stele/actors/fault"
)

// What runtimes call themselves whose first process is the user's.
const (
	runc = "runc"
	crun = "crun"
)

// Version is a runtime's answer to --version.
type Version struct {
	// Name is the runtime's own: runc, crun, runsc.
	Name string
	// Number is as printed, for instance 1.2.0-rc.1+dev.
	Number string
	// Spec is the version of the runtime spec that it knows; it may be empty.
	Spec string
}

// Before reports whether the version is older than the given one. A version
// without numbers is not.
func (v Version) Before(major, minor, patch int) bool {
	number, _, _ := strings.Cut(v.Number, "-")
	number, _, _ = strings.Cut(number, "+")
	parts := strings.Split(number, ".")
	for i, want := range []int{major, minor, patch} {
		if i >= len(parts) {
			return want > 0
		}
		got, err := strconv.Atoi(parts[i])
		if err != nil || got != want {
			return err == nil && got < want
		}
	}
	return false
}

// minMemory is what runc 1.5 has in use, rounded up, when it gives the container's cgroup
// its limit.
const minMemory = 4 << 20

// MinMemory returns the least memory limit, in bytes, with which the runtime starts a
// container; 0 if that is not known.
func (d *Driver) MinMemory() int64 {
	if d.version.Name == runc {
		return minMemory
	}
	return 0
}

func (d *Driver) askVersion(ctx context.Context) (Version, error) {
	out, err := d.run(ctx, "ask for the version of", d.runtime.Path, "--version")
	if err != nil {
		return Version{}, err
	}
	v := parseVersion(string(out))
	if v.Name == "" {
		return v, fault.New(fault.Unsupported, "ask for the version of", d.runtime.Path, "its answer has no version")
	}
	return v, nil
}

// parseVersion reads "NAME version NUMBER" and "spec: NUMBER".
func parseVersion(out string) Version {
	var v Version
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && fields[1] == "version" && v.Name == "":
			v.Name, v.Number = fields[0], fields[2]
		case len(fields) == 2 && fields[0] == "spec:":
			v.Spec = fields[1]
		}
	}
	return v
}

// askFeatures returns nil for a runtime that has no such command, as runc before
// 1.1.
func (d *Driver) askFeatures(ctx context.Context) (*features.Features, error) {
	out, err := d.run(ctx, "ask for the features of", d.runtime.Path, "features")
	if err != nil {
		if failed, ok := errors.AsType[*CommandError](err); ok && !failed.Missing && failed.Fault.Kind != fault.Deadline {
			return nil, nil
		}
		return nil, err
	}
	if len(out) == 0 {
		return nil, nil
	}
	var f features.Features
	if err := json.Unmarshal(out, &f); err != nil {
		return nil, fmt.Errorf("ask for the features of %s: %w", d.runtime.Path, err)
	}
	return &f, nil
}
