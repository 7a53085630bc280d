package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
)

// killPatience is how long the kernel may take to end a killed process before that is
// reported as a failure, and tried again.
const killPatience = 2 * time.Second

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
	if err := d.cgroups.Signal(path, c.ID, sig); err != nil || sig != unix.SIGKILL {
		return err
	}
	return awaitEnd(ctx, c)
}

// awaitEnd waits until a killed first process has ended. One that does not says why,
// so that whoever waits for it can be told.
func awaitEnd(ctx context.Context, c Container) error {
	if c.Init.PID == 0 {
		return nil
	}
	pidfd, err := c.Init.Open()
	if err != nil {
		return nil // It has ended, and its pid may be another's.
	}
	defer unix.Close(pidfd)
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(killPatience); ; {
		n, err := unix.Poll(poll, 20)
		switch {
		case n > 0:
			return nil
		case err != nil && err != unix.EINTR:
			return fmt.Errorf("wait for the end of container %s: %w", c.ID, err)
		case ctx.Err() != nil:
			return runtimeFault("kill container", c.ID, context.Cause(ctx))
		case time.Now().After(end):
			return fault.New(fault.Deadline, "kill container", c.ID, "its process %d has not ended %v after SIGKILL; %s", c.Init.PID, killPatience, processState(c.Init.PID))
		}
	}
}

// processState returns the kernel's word on what a process does.
func processState(pid int) string {
	status, err := readSmall(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(status)) {
		if state, is := strings.CutPrefix(line, "State:"); is {
			return "its state is " + strings.TrimSpace(state)
		}
	}
	return "its state is unknown"
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
	if err != nil {
		return err
	}
	if !known {
		return d.killForgotten(ctx, c, sig)
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

// killForgotten signals the first process of a container that the runtime does not
// have: by the monitor, and, if that does not have it either, by its recorded identity.
func (d *Driver) killForgotten(ctx context.Context, c Container, sig unix.Signal) error {
	err := d.monitor.Signal(ctx, c.ID, int(sig))
	if err == nil {
		return nil
	}
	if !errors.Is(err, monitor.ErrNotFound) {
		return runtimeFault("signal container", c.ID, err)
	}
	if c.Init.PID == 0 {
		return nil
	}
	pidfd, err := c.Init.Open()
	if err != nil {
		return nil // It has ended, and its pid may be another's.
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal container %s: its process %d: %w", c.ID, c.Init.PID, err)
	}
	return nil
}

// cgroupsPath reads where the container's cgroup is from its bundle. Without a bundle
// it is where the caller says.
func cgroupsPath(c Container) (string, error) {
	spec, err := readKept(c.Bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return c.CgroupsPath, nil
	}
	if err != nil || spec.Linux == nil {
		return "", err
	}
	return spec.Linux.CgroupsPath, nil
}
