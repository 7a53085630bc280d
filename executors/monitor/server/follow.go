package server

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// reapWait is how long a process that has ended may stay a zombie when its parent is
// not the monitor.
const reapWait = 30 * time.Second

// reapLook is how often the kernel is asked whether that has happened.
const reapLook = 20 * time.Millisecond

// follower learns how processes end that are not the monitor's children.
type follower struct{ pump *pump.Pump }

// follow calls tell, once, when a process has ended that is not the monitor's child.
// Until its parent reaps it, it is a zombie, whose status can be read; afterwards the
// pidfd has the status. The pidfd must stay open until tell is called.
func (f *follower) follow(pidfd int, tell func(reaper.Status)) error {
	return f.pump.WatchEnd(pidfd, false, func(reaped bool) {
		ended := reaper.Now()
		go func() {
			status, err := f.status(pidfd, reaped)
			if err != nil {
				status.Unknown = "the process was not a child of the monitor: " + err.Error()
			}
			status.Time, status.SinceBoot = ended.Time, ended.SinceBoot
			tell(status)
		}()
	})
}

func (f *follower) status(pidfd int, reaped bool) (reaper.Status, error) {
	if !reaped {
		if status, err := reaper.ZombieInfo(pidfd); err == nil {
			return status, nil
		}
		f.awaitReaped(pidfd)
	}
	return reaper.ExitInfo(pidfd)
}

// awaitReaped waits until a process that has ended was reaped: the pidfd has no status
// before. The parent may never do it.
func (f *follower) awaitReaped(pidfd int) {
	reaped := make(chan struct{})
	if err := f.pump.WatchEnd(pidfd, true, func(bool) { close(reaped) }); err != nil {
		return
	}
	// Older kernels do not say that it was: they just do not find the process any more.
	looking := time.NewTicker(reapLook)
	defer looking.Stop()
	giveUp := time.After(reapWait)
	for !gone(pidfd) {
		select {
		case <-reaped:
			return
		case <-looking.C:
		case <-giveUp:
			f.pump.Unwatch(pidfd)
			return
		}
	}
	f.pump.Unwatch(pidfd)
}

// gone reports whether a process was reaped; a zombie can still be signalled.
func gone(pidfd int) bool {
	return errors.Is(unix.PidfdSendSignal(pidfd, 0, nil, 0), unix.ESRCH)
}

// isOwnChild reports whether a process exists and is a child of this one, so that its
// status comes from the reaper.
func isOwnChild(p *pb.Process) bool {
	pid := int(p.GetPid())
	return proc.Parent(pid) == os.Getpid() && proc.StartTime(pid) == p.GetStartTime()
}
