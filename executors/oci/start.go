package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// startDeadline bounds the wait for a container's first process to continue.
const startDeadline = 30 * time.Second

// Start lets the user's program run. A container that was started before is
// success, which already reports; one whose first process ended before that is
// fault.Precondition.
//
// A container that runc created waits until somebody opens the FIFO exec.fifo in
// its state directory for reading. Doing that here takes a fiftieth of the time
// that executing `runc start` does, which does nothing else: there are no hooks.
// The price: if this process is killed in the microseconds between the opening
// and the container's answer, the container's first process ends, and the start
// has failed.
func (d *Driver) Start(ctx context.Context, c Container) (already bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if d.version.Name != runc {
		return d.startByCommand(ctx, c)
	}
	fifo := filepath.Join(d.stateDir(c.ID), "exec.fifo")
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		if _, err := os.Stat(d.stateDir(c.ID)); err != nil {
			return false, fault.New(fault.Precondition, "start container", c.ID, "the runtime doesn't have it: %v", err)
		}
		// It goes away when the container was started.
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("start container %s: %w", c.ID, &fs.PathError{Op: "open", Path: fifo, Err: err})
	}
	defer unix.Close(fd)
	if already, err = d.awaitInit(ctx, c, fd); err != nil {
		return false, err
	}
	if err := os.Remove(fifo); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("start container %s: %w", c.ID, err)
	}
	return already, nil
}

// awaitInit returns once the container's first process has passed the FIFO, of
// which fd is the reading end; already reports that it had before.
func (d *Driver) awaitInit(ctx context.Context, c Container, fd int) (already bool, err error) {
	waiting, err := findInit(c)
	if err != nil {
		return false, err
	}
	defer waiting.close()
	for {
		// What was written is worth more than the state of the writer, so it is
		// checked last, and again after the writer is gone.
		state := waiting.state()
		written, err := fifoWritten(fd)
		switch {
		case err != nil:
			return false, fmt.Errorf("start container %s: read exec.fifo: %w", c.ID, err)
		case written:
			return false, nil
		case state == initPast:
			return true, nil
		case state == initGone:
			return false, fault.New(fault.Precondition, "start container", c.ID, "its first process ended before it was started")
		}
		// A process that is released writes within microseconds; the pause is for
		// cases that wake no poll.
		if err := waiting.pause(ctx, fd); err != nil {
			return false, runtimeFault("start container", c.ID, fmt.Errorf("its first process doesn't continue: %w", err))
		}
	}
}

// fifoWritten takes the byte that the process writes. End of file means nothing: a
// FIFO without a writer is always there.
func fifoWritten(fd int) (bool, error) {
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return false, nil
	}
	return n > 0, err
}

// waitingInit is a container's first process, which may be gone.
type waitingInit struct {
	pid int
	// pidfd is -1 for one that is gone.
	pidfd int
}

type initState int

const (
	// initWaits: it is still the runtime's program.
	initWaits initState = iota
	// initPast: it has become the user's.
	initPast
	// initGone: it has ended.
	initGone
)

// findInit opens the process whose pid the runtime left in the bundle, if it still
// is that container's: pids are reused, but the cgroup's name has the container's
// id.
func findInit(c Container) (*waitingInit, error) {
	pid, err := readPid(pidPath(c.Bundle))
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.ID, err)
	}
	gone := &waitingInit{pid: pid, pidfd: -1}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return gone, nil
	}
	if err != nil {
		return nil, fmt.Errorf("start container %s: open process %d: %w", c.ID, pid, err)
	}
	cgroup, err := readSmall(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !bytes.Contains(cgroup, []byte(c.ID)) {
		unix.Close(fd)
		return gone, nil
	}
	return &waitingInit{pid: pid, pidfd: fd}, nil
}

func (w *waitingInit) close() {
	if w.pidfd >= 0 {
		unix.Close(w.pidfd)
	}
}

func (w *waitingInit) state() initState {
	if w.pidfd < 0 {
		return initGone
	}
	// The name first: it can't be another's if the process still runs afterwards.
	name, err := readSmall(fmt.Sprintf("/proc/%d/comm", w.pid))
	poll := []unix.PollFd{{Fd: int32(w.pidfd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(poll, 0); n > 0 {
		return initGone
	}
	// runc calls its process "runc:[2:INIT]" until it executes the user's.
	if err == nil && !strings.HasPrefix(string(name), "runc:[") {
		return initPast
	}
	return initWaits
}

// pause waits until something is written, the process ends, or a short time has
// passed.
func (w *waitingInit) pause(ctx context.Context, fifo int) error {
	const milliseconds = 10
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	poll := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(w.pidfd), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, milliseconds); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

// startByCommand runs the runtime's command. If that fails, the container's state
// shows whether it had been started before.
func (d *Driver) startByCommand(ctx context.Context, c Container) (already bool, err error) {
	_, err = d.run(ctx, "start container", c.ID, append(d.globalArgs(""), "start", c.ID)...)
	if err == nil {
		return false, nil
	}
	status, stateErr := d.status(ctx, c.ID)
	if stateErr == nil && (status == "running" || status == "stopped") {
		return true, nil
	}
	return false, errors.Join(err, stateErr)
}

// status asks the runtime for a container's state, after it refused a command that
// may have been done before.
func (d *Driver) status(ctx context.Context, id string) (string, error) {
	out, err := d.run(ctx, "ask for the state of container", id, append(d.globalArgs(""), "state", id)...)
	if err != nil {
		return "", err
	}
	var state struct{ Status string }
	if err := json.Unmarshal(out, &state); err != nil {
		return "", fmt.Errorf("ask for the state of container %s: %w", id, err)
	}
	return state.Status, nil
}

func readPid(path string) (int, error) {
	data, err := readSmall(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s: no pid: %q", path, data)
	}
	return pid, nil
}

// readSmall reads a file of which the first 64 KiB are enough.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
