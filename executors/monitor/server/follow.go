package server

import (
	"os"
	"time"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// reapWait is how long a process that has ended may wait for its parent,
	// which is not the monitor, to ask how.
	reapWait = 30 * time.Second
)

// followForeign calls tell, once, when a process has ended that is no child of
// the monitor: somebody else waits for it. Until then it is a zombie, which shows how
// it ended, and afterwards the pidfd tells what that one was told. The pidfd must stay
// open until tell is called.
func (s *Server) followForeign(pidfd int, tell func(reaper.Status)) error {
	return s.pump.WatchEnd(pidfd, false, func(reaped bool) {
		ended := reaper.Now()
		go func() {
			status, err := s.foreignStatus(pidfd, reaped)
			if err != nil {
				status.Unknown = "the process was not a child of the monitor: " + err.Error()
			}
			status.Time, status.SinceBoot = ended.Time, ended.SinceBoot
			tell(status)
		}()
	})
}

func (s *Server) foreignStatus(pidfd int, reaped bool) (reaper.Status, error) {
	if !reaped {
		if status, err := reaper.ZombieInfo(pidfd); err == nil {
			return status, nil
		}
		s.awaitReaped(pidfd)
	}
	return reaper.ExitInfo(pidfd)
}

// awaitReaped waits until somebody has waited for a process that has ended: the
// pidfd knows nothing before. The parent may never do it.
func (s *Server) awaitReaped(pidfd int) {
	reaped := make(chan struct{})
	if err := s.pump.WatchEnd(pidfd, true, func(bool) { close(reaped) }); err != nil {
		return
	}
	select {
	case <-reaped:
	case <-time.After(reapWait):
		s.pump.Unwatch(pidfd)
	}
}

// isOwnChild reports whether a process is there and is a child of this one, so
// that its status comes from the reaper.
func isOwnChild(p *pb.Process) bool {
	pid := int(p.GetPid())
	return proc.Parent(pid) == os.Getpid() && proc.StartTime(pid) == p.GetStartTime()
}
