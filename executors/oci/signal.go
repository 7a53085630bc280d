package oci

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
)

// Kill sends a signal to the container's first process; with all, to every process
// in its cgroup as well, which matters where the container shares a PID namespace:
// there the others outlive the first. A container that is gone or has ended is
// success.
func (d *Driver) Kill(ctx context.Context, c Container, sig unix.Signal, all bool) error {
	if err := d.killInit(ctx, c, sig); err != nil {
		return err
	}
	if !all {
		return nil
	}
	path, err := cgroupsPath(c)
	if err != nil || path == "" {
		return err
	}
	return d.cgroups.Signal(path, c.ID, sig)
}

// killInit signals by the monitor's pidfd if the first process is the user's, and
// by the runtime otherwise.
func (d *Driver) killInit(ctx context.Context, c Container, sig unix.Signal) error {
	if d.version.Name == runc || d.version.Name == crun {
		err := d.monitor.Signal(ctx, c.ID, int(sig))
		if !errors.Is(err, monitor.ErrNotFound) {
			if err != nil {
				return runtimeFault("signal container", c.ID, err)
			}
			return nil
		}
	}
	known, err := d.known(c.ID)
	if err != nil || !known {
		return err
	}
	_, err = d.run(ctx, "signal container", c.ID, append(d.globalArgs(""), "kill", c.ID, strconv.Itoa(int(sig)))...)
	if err == nil {
		return nil
	}
	// It may have ended meanwhile.
	status, stateErr := d.status(ctx, c.ID)
	if stateErr == nil && status == "stopped" {
		return nil
	}
	if known, knownErr := d.known(c.ID); knownErr == nil && !known {
		return nil
	}
	return err
}

// cgroupsPath reads where the container's cgroup is from its bundle; empty if
// there is no bundle, and so no cgroup.
func cgroupsPath(c Container) (string, error) {
	spec, err := readConfig(c.Bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || spec.Linux == nil {
		return "", err
	}
	return spec.Linux.CgroupsPath, nil
}
