package oci

import (
	"context"
	"errors"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
)

// Delete ends what is left of a container, whatever its state, and removes it from
// the runtime and its cgroups. A container that is gone is success. The bundle
// stays, and so does what the monitor knows.
func (d *Driver) Delete(ctx context.Context, c Container) error {
	known, err := d.known(c.ID)
	if err != nil {
		return err
	}
	if !known {
		if err := d.killForgotten(ctx, c, unix.SIGKILL); err != nil {
			return err
		}
		// The monitor may have been creating it, for a daemon that has ended since.
		if known, err = d.known(c.ID); err != nil {
			return err
		}
	}
	spec, path, err := deletedSpec(c)
	if err != nil {
		return err
	}
	if known {
		if err := d.deleteKnown(ctx, c, spec, path); err != nil {
			return err
		}
	}
	if path == "" {
		return nil
	}
	return d.cgroups.RemoveContainer(ctx, path, c.ID)
}

// deletedSpec reads the specification, nil without a bundle, and where the cgroup is.
func deletedSpec(c Container) (spec *specs.Spec, path string, err error) {
	spec, err = readKept(c.Bundle)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, c.CgroupsPath, nil
	case err != nil || spec.Linux == nil:
		return spec, "", err
	}
	return spec, spec.Linux.CgroupsPath, nil
}

// deleteKnown kills first: runc's forced delete of a live container sleeps for
// a tenth of a second before it looks whether the container has ended.
func (d *Driver) deleteKnown(ctx context.Context, c Container, spec *specs.Spec, path string) error {
	err := d.monitor.Signal(ctx, c.ID, int(unix.SIGKILL))
	if err == nil && path != "" {
		// What is frozen is thawed: it would not end.
		err = d.cgroups.Signal(path, c.ID, unix.SIGKILL)
	}
	if err == nil {
		if d.hasOnlyState(ctx, c.ID, spec) {
			// The state goes last: until then, a repetition finds it.
			if path != "" {
				err = d.cgroups.RemoveContainer(ctx, path, c.ID)
			}
			if err != nil {
				return err
			}
			return os.RemoveAll(d.stateDir(c.ID))
		}
		_, err = d.run(ctx, "delete container", c.ID, append(d.globalArgs(""), "delete", c.ID)...)
	} else if !errors.Is(err, monitor.ErrNotFound) {
		return runtimeFault("delete container", c.ID, err)
	}
	if err != nil {
		// It didn't end at once, or the monitor never had it.
		_, err = d.run(ctx, "delete container", c.ID, append(d.globalArgs(""), "delete", "--force", c.ID)...)
	}
	if err != nil {
		return err
	}
	known, err := d.known(c.ID)
	if err == nil && known {
		err = fault.New(fault.Internal, "delete container", c.ID, "the runtime reported success, but its state is still in %s", d.runtime.StateRoot)
	}
	return err
}

// hasOnlyState reports whether all that the runtime's delete would do is to remove the cgroups
// and the container's state, which then need no process: the first process has ended, nothing
// is to be executed, and nobody else (systemd, a resource control group) has a part of it.
func (d *Driver) hasOnlyState(ctx context.Context, id string, spec *specs.Spec) bool {
	known := d.version.Name == runc || d.version.Name == crun
	if !known || d.runtime.Systemd || spec == nil || spec.Linux == nil || spec.Linux.IntelRdt != nil {
		return false
	}
	if spec.Hooks != nil && len(spec.Hooks.Poststop) > 0 {
		return false
	}
	if info, err := os.Lstat(d.stateDir(id)); err != nil || !info.IsDir() {
		return false
	}
	found, err := d.monitor.Container(ctx, id)
	return err == nil && found.Exit != nil
}
