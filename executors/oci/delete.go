package oci

import (
	"context"
	"errors"

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
	if known {
		if err := d.deleteKnown(ctx, c); err != nil {
			return err
		}
	} else if err := d.killForgotten(ctx, c, unix.SIGKILL); err != nil {
		return err
	}
	path, err := cgroupsPath(c)
	if err != nil || path == "" {
		return err
	}
	return d.cgroups.RemoveContainer(ctx, path, c.ID)
}

// killCgroup kills the rest, and thaws what is frozen: that would not end.
func (d *Driver) killCgroup(c Container) error {
	path, err := cgroupsPath(c)
	if err != nil || path == "" {
		return err
	}
	return d.cgroups.Signal(path, c.ID, unix.SIGKILL)
}

// deleteKnown kills first: runc's forced delete of a live container sleeps for
// a tenth of a second before it looks whether the container has ended.
func (d *Driver) deleteKnown(ctx context.Context, c Container) error {
	err := d.monitor.Signal(ctx, c.ID, int(unix.SIGKILL))
	if err == nil {
		err = d.killCgroup(c)
	}
	if err == nil {
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
