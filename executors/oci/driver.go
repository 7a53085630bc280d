package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/monitor"
)

// Monitor is what the driver needs of the monitor's client.
type Monitor interface {
	// Create is idempotent for a container that the monitor has.
	Create(context.Context, monitor.CreateRequest) (monitor.Process, error)
	StartExec(context.Context, monitor.ExecRequest) (*monitor.Exec, error)
	// Signal signals the container's first process; one that has ended is no
	// error, an unknown container is monitor.ErrNotFound.
	Signal(ctx context.Context, id string, signal int) error
	// Container is monitor.ErrNotFound for one that the monitor does not have.
	Container(ctx context.Context, id string) (monitor.Container, error)
	ReopenLog(ctx context.Context, id string) error
}

// Runtime says which runtime to drive, and how.
type Runtime struct {
	// Name of the runtime handler, for messages.
	Name string
	// Path of the executable; a bare name is looked for in PATH.
	Path string
	// StateRoot is the runtime's own directory (--root), absolute and not shared
	// with any other handler.
	StateRoot string
	// Systemd lets systemd make the cgroups; specs must then have cgroup paths
	// of its form.
	Systemd bool
}

// Config is what a Driver is made from. All fields are needed.
type Config struct {
	Runtime Runtime
	Monitor Monitor
	// Cgroups removes what a runtime leaves.
	Cgroups *cgroups.Manager
}

// Driver drives one runtime. Its methods are safe for concurrent use, but calls for
// one container must not overlap, except Exec.
type Driver struct {
	runtime  Runtime
	monitor  Monitor
	cgroups  *cgroups.Manager
	version  Version
	features *features.Features
}

// Container names a container to the runtime.
type Container struct {
	ID string
	// Bundle is the directory that Create was given.
	Bundle string

	// The rest is for the end of a container whose bundle and runtime state somebody
	// has removed under it. It may be empty.

	// CgroupsPath is the specification's linux.cgroupsPath.
	CgroupsPath string
	// Init is the first process, if it has not ended.
	Init monitor.Process
}

// New asks the runtime for its version and features. It fails with
// fault.Unsupported if the runtime is missing, or is a runc below 1.1.12.
func New(ctx context.Context, c Config) (*Driver, error) {
	path, err := exec.LookPath(c.Runtime.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fault.New(fault.Unsupported, "find runtime", c.Runtime.Name, "%v", err)
	}
	c.Runtime.Path = path
	if !filepath.IsAbs(c.Runtime.StateRoot) {
		return nil, fmt.Errorf("runtime %s: its state directory %q is not an absolute path", c.Runtime.Name, c.Runtime.StateRoot)
	}
	if err := os.MkdirAll(c.Runtime.StateRoot, 0o700); err != nil {
		return nil, fmt.Errorf("runtime %s: make its state directory: %w", c.Runtime.Name, err)
	}
	d := &Driver{runtime: c.Runtime, monitor: c.Monitor, cgroups: c.Cgroups}
	if d.version, err = d.askVersion(ctx); err != nil {
		return nil, err
	}
	if d.version.Name == runc && d.version.Before(1, 1, 12) {
		return nil, fault.New(fault.Unsupported, "use runtime", path,
			"runc %s lets containers reach the node's file system (CVE-2024-21626); use 1.1.12 or newer", d.version.Number)
	}
	if d.features, err = d.askFeatures(ctx); err != nil {
		return nil, err
	}
	if d.OwnKernel() && d.features != nil && d.features.Linux != nil {
		d.features.Linux.MountExtensions = nil // ids are those of its own kernel
	}
	return d, nil
}

// Version returns what the runtime calls itself.
func (d *Driver) Version() Version { return d.version }

// Features returns the features that the runtime reports; nil if it reports none.
func (d *Driver) Features() *features.Features { return d.features }

// Runtime returns the runtime as it is driven: its path is absolute.
func (d *Driver) Runtime() Runtime { return d.runtime }

// stateDir is where runc and crun keep a container.
func (d *Driver) stateDir(id string) string { return filepath.Join(d.runtime.StateRoot, id) }

// known reports whether the runtime's directory has anything with the
// container's id in its name. Of a node's containers, only gVisor and runtimes that are not
// known here make it read the names of all others.
func (d *Driver) known(id string) (bool, error) {
	if d.version.Name == runc || d.version.Name == crun {
		_, err := os.Lstat(d.stateDir(id))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("look for container %s: %w", id, err)
		}
		return err == nil, nil
	}
	entries, err := os.ReadDir(d.runtime.StateRoot)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("look for container %s: %w", id, err)
	}
	for _, e := range entries {
		// gVisor has files in whose names it is one part.
		if e.Name() == id || slices.Contains(strings.FieldsFunc(e.Name(), isSeparator), id) {
			return true, nil
		}
	}
	return false, nil
}

func isSeparator(r rune) bool { return r == '_' || r == ':' || r == '.' }

// globalArgs are the arguments before the command.
func (d *Driver) globalArgs(log string) []string {
	args := []string{"--root", d.runtime.StateRoot, "--log-format", "json"}
	if log != "" {
		args = append(args, "--log", log)
	}
	if d.runtime.Systemd {
		args = append(args, "--systemd-cgroup")
	}
	if d.OwnKernel() {
		args = append(args, gvisorFlags(d.features)...)
	}
	return args
}
