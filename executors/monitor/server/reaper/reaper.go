package reaper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
)

// maxStrays bounds the statuses that are kept while a runtime is being started.
const maxStrays = 4096

// Status is how and when a process ended.
type Status struct {
	// Code is the exit code, or 128 + Signal.
	Code int
	// Signal is the signal that ended the process; 0 for none.
	Signal int
	// Time is when the monitor learned it; SinceBoot is the same by the clock that
	// starts at boot and does not jump.
	Time      time.Time
	SinceBoot time.Duration
	// Unknown is why Code and Signal could not be learned; empty if they are known.
	Unknown string
}

// Now returns a Status with the current time and no outcome.
func Now() Status {
	var ts unix.Timespec
	// CLOCK_BOOTTIME exists on every kernel that has pidfds.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return Status{Time: time.Now(), SinceBoot: time.Duration(ts.Nano())}
}

// setWait sets the outcome from a wait(2) status.
func (s *Status) setWait(w unix.WaitStatus) {
	if w.Signaled() {
		s.Signal = int(w.Signal())
		s.Code = 128 + s.Signal
		return
	}
	s.Code = w.ExitStatus()
}

// ExitInfo returns how a pidfd's process ended, after another process reaped it: see
// proc.WaitStatus.
func ExitInfo(pidfd int) (Status, error) { return statusFrom(proc.WaitStatus(pidfd)) }

// ZombieInfo returns how a pidfd's process ended, before it is reaped: see
// proc.ZombieStatus.
func ZombieInfo(pidfd int) (Status, error) { return statusFrom(proc.ZombieStatus(pidfd)) }

func statusFrom(wait unix.WaitStatus, err error) (Status, error) {
	status := Now()
	if err == nil {
		status.setWait(wait)
	}
	return status, err
}

// Reaper waits for all children of its process.
type Reaper struct {
	// sweeping is held over a sweep: from the first status taken until all were
	// reported.
	sweeping sync.Mutex
	// mu is held over fork and wait, which wait for nothing but the kernel.
	mu sync.Mutex
	// followed takes statuses, by pid.
	followed map[int]func(Status)
	// starting counts the Begins without End.
	starting int
	strays   map[int]Status
}

// New makes the process the subreaper of its descendants.
func New() (*Reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	return &Reaper{followed: map[int]func(Status){}, strays: map[int]Status{}}, nil
}

// Run reaps every child that ends, until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	for {
		r.sweep()
		select {
		case <-children:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reaper) sweep() {
	r.sweeping.Lock()
	defer r.sweeping.Unlock()
	for {
		pid, tell, status := r.take()
		if pid <= 0 {
			return
		}
		if tell != nil {
			tell(status)
		}
	}
}

// take reaps one child, if one has ended.
func (r *Reaper) take() (pid int, tell func(Status), status Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var w unix.WaitStatus
	for {
		var err error
		pid, err = unix.Wait4(-1, &w, unix.WNOHANG|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return 0, nil, Status{}
		}
		break
	}
	status = Now()
	status.setWait(w)
	if tell, ok := r.followed[pid]; ok {
		delete(r.followed, pid)
		return pid, tell, status
	}
	if r.starting > 0 && len(r.strays) < maxStrays {
		r.strays[pid] = status
	}
	return pid, nil, status
}

// Rest calls f while no child is reaped, no status is reported, and no child is
// started.
func (r *Reaper) Rest(f func()) {
	r.sweeping.Lock()
	defer r.sweeping.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Begin announces a process that will leave an orphan to the monitor. End must follow,
// once Follow was called or won't be.
func (r *Reaper) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting++
}

// End undoes a Begin.
func (r *Reaper) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.starting--; r.starting == 0 {
		clear(r.strays)
	}
}

// ErrForeign: a process is not a child of this one; its status will not come from the
// reaper.
var ErrForeign = errors.New("the process is not a child of the monitor")

// Follow calls tell once when the child pid has ended, in a goroutine that must not be
// blocked or before Follow returns. It returns a pidfd; -1 for a child that had ended
// already. With ErrForeign it returns a pidfd and will not call tell. It must be called
// between Begin and End, with a pid that was learned after Begin.
func (r *Reaper) Follow(pid int, tell func(Status)) (pidfd int, err error) {
	pidfd, ended, err := r.follow(pid, tell)
	if ended != nil {
		tell(*ended)
	}
	return pidfd, err
}

func (r *Reaper) follow(pid int, tell func(Status)) (pidfd int, ended *Status, err error) {
	if pid <= 1 {
		return -1, nil, fmt.Errorf("pid %d can't be that of a child", pid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// While the lock is held no child can be reaped, so a child keeps its pid, and a
	// stray's pid that belongs to a child was reused.
	pidfd, err = unix.PidfdOpen(pid, 0)
	if err == nil {
		if proc.Parent(pid) == os.Getpid() {
			r.followed[pid] = tell
			return pidfd, nil, nil
		}
	}
	if status, ok := r.strays[pid]; ok {
		if err == nil {
			_ = unix.Close(pidfd)
		}
		delete(r.strays, pid)
		return -1, &status, nil
	}
	if err != nil {
		return -1, nil, fmt.Errorf("open a pidfd of process %d: %w", pid, err)
	}
	return pidfd, nil, ErrForeign
}
