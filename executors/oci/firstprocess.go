package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

const (
	// execPause is the pause between two looks for the program's execution, which
	// the kernel reports to nobody. It takes less than a millisecond.
	execPause = 50 * time.Microsecond
	// execSoon is how many looks are that close; later ones are idlePause apart.
	execSoon = 200
	// idlePause is for what wakes no poll.
	idlePause = 10 * time.Millisecond
)

// firstProcess is a container's first process, which may be gone.
type firstProcess struct {
	pid int
	// pidfd is -1 for one that is gone.
	pidfd int
	// maps is the process's memory map as it was when it was found. It belongs to the
	// memory, not to the process: once the process has executed another program it is
	// empty.
	maps int
	// past: it had executed the program when it was found, so that the map is the program's.
	past bool
}

// findInit opens the process whose pid the runtime left in the bundle, if it still
// is that container's: pids are reused, but the cgroup's name has the container's
// id.
func findInit(c Container) (*firstProcess, error) {
	pid, err := readPid(pidPath(c.Bundle))
	if errors.Is(err, fs.ErrNotExist) {
		return &firstProcess{pidfd: -1, maps: -1}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.ID, err)
	}
	p := &firstProcess{pid: pid, pidfd: -1, maps: -1}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("start container %s: open process %d: %w", c.ID, pid, err)
	}
	cgroup, err := readSmall(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !bytes.Contains(cgroup, []byte(c.ID)) {
		unix.Close(fd)
		return p, nil
	}
	p.pidfd = fd
	if p.maps, err = openMaps(pid); err != nil && !p.ended() {
		p.close()
		return nil, fmt.Errorf("start container %s: open the memory map of process %d: %w", c.ID, pid, err)
	}
	return p, nil
}

func (p *firstProcess) close() {
	for _, fd := range []int{p.pidfd, p.maps} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (p *firstProcess) ended() bool {
	if p.pidfd < 0 {
		return true
	}
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// isRuntimes reports whether a process that has not ended still runs the runtime's
// program: runc calls that "runc:[2:INIT]".
func (p *firstProcess) isRuntimes() bool {
	name, err := readSmall(fmt.Sprintf("/proc/%d/comm", p.pid))
	return err != nil || strings.HasPrefix(string(name), "runc:[")
}

// executed reports whether the process has executed another program since it was found,
// and runs it.
func (p *firstProcess) executed() bool {
	if p.past {
		return !p.ended()
	}
	var b [1]byte
	if n, err := unix.Pread(p.maps, b[:], 0); n > 0 || err != nil {
		return false
	}
	// A process that is ending has no memory either.
	now, err := openMaps(p.pid)
	if err != nil {
		return false
	}
	defer unix.Close(now)
	n, _ := unix.Pread(now, b[:], 0)
	return n > 0 && !p.ended()
}

func openMaps(pid int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/%d/maps", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// awaitContinued returns once the container's first process has passed the FIFO, of
// which fd is the reading end; before reports that it had when this began.
func (p *firstProcess) awaitContinued(ctx context.Context, c Container, fd int) (before bool, err error) {
	for {
		// What was written is worth more than the state of the writer, so it is
		// checked last, and again after the writer is gone. The name is read first: it
		// can't be another's if the process still runs afterwards.
		past := !p.isRuntimes()
		gone := p.ended()
		written, err := fifoWritten(fd)
		switch {
		case err != nil:
			return false, fmt.Errorf("start container %s: read exec.fifo: %w", c.ID, err)
		case written:
			return false, nil
		case gone:
			return false, fault.New(fault.Precondition, "start container", c.ID, "its first process ended before it was started")
		case past:
			return true, nil
		}
		// A process that is released writes within microseconds.
		if err := p.pause(ctx, idlePause, fd); err != nil {
			return false, runtimeFault("start container", c.ID, fmt.Errorf("its first process doesn't continue: %w", err))
		}
	}
}

// awaitExec returns when the process, which has continued, was seen to run another
// program; seen is false if it ended and nobody can know whether it had.
func (p *firstProcess) awaitExec(ctx context.Context) (at time.Time, seen bool, err error) {
	for look := 0; ; look++ {
		at := time.Now()
		if p.executed() {
			return at, true, nil
		}
		if p.ended() {
			return time.Time{}, false, nil
		}
		if err := p.pause(ctx, lookPause(look)); err != nil {
			return time.Time{}, false, err
		}
	}
}

// awaitName is awaitExec for a process that another call released.
func (p *firstProcess) awaitName(ctx context.Context, c Container) error {
	for look := 0; ; look++ {
		runtimes := p.isRuntimes()
		if p.ended() || !runtimes {
			return nil
		}
		if err := p.pause(ctx, lookPause(look)); err != nil {
			return runtimeFault("start container", c.ID, fmt.Errorf("its program is not executed: %w", err))
		}
	}
}

func lookPause(look int) time.Duration {
	if look < execSoon {
		return execPause
	}
	return idlePause
}

// pause waits until the process ends, something can be read, or the time has passed.
func (p *firstProcess) pause(ctx context.Context, d time.Duration, readable ...int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	poll := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for _, fd := range readable {
		poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	timeout := unix.NsecToTimespec(d.Nanoseconds())
	if _, err := unix.Ppoll(poll, &timeout, nil); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}
