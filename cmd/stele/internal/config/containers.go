package config

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/capability"

	"github.com/stele-runtime/stele/executors/spec"
)

// checkContainers checks what applies to all containers.
func (r *Runtime) checkContainers() []error {
	problems := []error{
		file("runtime.seccomp_profile", r.SeccompProfile),
		file("runtime.privileged_seccomp_profile", r.PrivilegedSeccompProfile),
	}
	each := func(key string, values []string, check func(string) string) {
		for i, value := range values {
			if why := check(value); why != "" {
				problems = append(problems, refuse(fmt.Sprintf("runtime.%s[%d]", key, i), value, why))
			}
		}
	}
	each("default_ulimits", r.DefaultUlimits, func(s string) string {
		if _, err := spec.ParseUlimit(s); err != nil {
			return "is not a limit, as in \"nofile=1024:2048\""
		}
		return ""
	})
	each("default_capabilities", r.DefaultCapabilities, func(s string) string {
		if !isCapability(s) {
			return "is not a capability"
		}
		return ""
	})
	each("default_env", r.DefaultEnv, func(s string) string {
		if name, _, is := strings.Cut(s, "="); !is || name == "" || strings.Contains(s, "\x00") {
			return "is not KEY=VALUE"
		}
		return ""
	})
	each("additional_devices", r.AdditionalDevices, func(s string) string {
		if _, err := spec.ParseDevice(s); err != nil {
			return err.Error()
		}
		return ""
	})
	each("allowed_devices", r.AllowedDevices, func(s string) string {
		if !path.IsAbs(s) || path.Clean(s) != s {
			return "is not an absolute, clean path"
		}
		return ""
	})
	problems = append(problems, r.Mounts.check()...)
	for i, name := range r.CDISpecDirs {
		problems = append(problems, dir(fmt.Sprintf("runtime.cdi_spec_dirs[%d]", i), name))
	}
	each("absent_mount_sources_to_reject", r.AbsentMountSourcesToReject, func(s string) string {
		if !path.IsAbs(s) || path.Clean(s) != s {
			return "is not an absolute, clean path"
		}
		return ""
	})
	if _, err := r.SizeOfShm(); err != nil {
		problems = append(problems, refuse("runtime.shm_size", r.ShmSize, "is not a size, as in \"128m\""))
	}
	if _, err := r.TimezoneFile(); err != nil {
		problems = append(problems, refuse("runtime.timezone", r.Timezone, "is not a time zone of this node: %w", err))
	}
	if !slices.Contains([]spec.ImageVolumes{"", spec.BindImageVolumes, spec.MakeImageVolumes, spec.IgnoreImageVolumes}, spec.ImageVolumes(r.ImageVolumes)) {
		problems = append(problems, refuse("runtime.image_volumes", r.ImageVolumes, "is neither bind, mkdir nor ignore"))
	}
	if r.PidsLimit < -1 {
		problems = append(problems, refuse("runtime.pids_limit", r.PidsLimit, "is neither a number of processes nor -1, for no limit"))
	}
	if strings.ContainsAny(r.ApparmorProfile, " \t\r\n\x00") {
		problems = append(problems, refuse("runtime.apparmor_profile", r.ApparmorProfile, "is not a profile's name"))
	}
	return problems
}

func isCapability(name string) bool {
	name = strings.ToLower(strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	for _, known := range capability.ListKnown() {
		if known.String() == name {
			return true
		}
	}
	return false
}

// SizeOfShm is ShmSize in bytes, 0 if it is empty.
func (r *Runtime) SizeOfShm() (int64, error) {
	if r.ShmSize == "" {
		return 0, nil
	}
	size, err := units.RAMInBytes(r.ShmSize)
	if err == nil && size <= 0 {
		err = errors.New("not positive")
	}
	return size, err
}

// zones is the time zone database.
const zones = "/usr/share/zoneinfo"

// TimezoneFile is the file of Timezone, without links; empty if that is.
func (r *Runtime) TimezoneFile() (string, error) {
	switch {
	case r.Timezone == "":
		return "", nil
	case strings.EqualFold(r.Timezone, "local"):
		return filepath.EvalSymlinks("/etc/localtime")
	case !filepath.IsLocal(r.Timezone):
		return "", errors.New("a path that leads elsewhere")
	}
	found, err := filepath.EvalSymlinks(filepath.Join(zones, r.Timezone))
	if err != nil {
		return "", cause(err)
	}
	if info, err := os.Stat(found); err != nil || !info.Mode().IsRegular() {
		return "", errors.New("not a file")
	}
	return found, nil
}
