package server

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// drainWait is how long an exit waits for the last output to be written:
	// only a disk that hangs takes so long.
	drainWait = 10 * time.Second
	// reapWait is how long a process that has ended may wait for its parent,
	// which is not the monitor, to ask how.
	reapWait = 30 * time.Second
	// noteTerminal is what an exit says of a terminal that was lost.
	noteTerminal = "the terminal had hung up, since for a time nobody held it: the container was sent SIGHUP"
)

// teller returns what takes the status of a container's first process. It looks
// for OOM kills at once, before somebody removes the cgroup.
func (s *Server) teller(c *container, oom oomMark) func(reaper.Status) {
	return func(status reaper.Status) {
		s.ends.admit()
		killed := oom.passed()
		go func() {
			defer s.ends.leave()
			s.ended(c, status, killed)
		}()
	}
}

// ended journals the exit of a container's first process, once, after the output
// that it left in the pipes was written: who sees the exit finds the whole log.
func (s *Server) ended(c *container, status reaper.Status, oomKilled bool) {
	<-c.ready
	if c.err != nil {
		return
	}
	c.once.Do(func() {
		s.drain(c)
		c.exit = &pb.Exit{
			ContainerId: c.id,
			Process:     c.record.Process,
			Code:        int32(status.Code),
			Signal:      int32(status.Signal),
			OomKilled:   oomKilled,
			Time:        status.Time.UnixNano(),
			SinceBoot:   int64(status.SinceBoot),
			Unknown:     status.Unknown,
		}
		if c.hungUp() {
			c.exit.Note = noteTerminal
		}
		if err := s.journal.Exited(c.exit); err != nil {
			s.logger.Error("journal an exit", "container", c.id, "error", err)
		}
		close(c.exited)
	})
}

// drain waits until what a container has left in its pipes is written.
func (s *Server) drain(c *container) {
	output := c.outputs()
	if output == nil {
		return
	}
	drained := make(chan struct{})
	if output.Drain(func() { close(drained) }) != nil {
		return
	}
	select {
	case <-drained:
	case <-time.After(drainWait):
		s.logger.Warn("the end of a container's output is not in its log yet", "container", c.id)
	}
}

// unseen reports a container that ended with nobody to see how.
func (s *Server) unseen(c *container) {
	status := reaper.Now()
	status.Unknown = unseen
	s.teller(c, c.oomMark())(status)
}

// oomMark returns the count of OOM kills before the container started.
func (c *container) oomMark() oomMark {
	return oomMark{file: c.record.OomFile, kills: c.record.OomKills}
}

// follow tells the end of a container's first process, which the monitor did not
// start in this life: it is a child after an upgrade, and not after the death of
// a monitor.
func (s *Server) follow(c *container, pidfd int) error {
	tell := s.teller(c, c.oomMark())
	if isOwnChild(c.record.Process) {
		s.reaper.Begin()
		defer s.reaper.End()
		twin, err := s.reaper.Follow(int(c.record.Process.Pid), tell)
		closeAll(twin)
		return err
	}
	return s.followForeign(pidfd, tell)
}

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

// signal sends a signal to a container's first process.
func (s *Server) signal(req *pb.Signal) error {
	c, err := s.find(req.ContainerId)
	if err != nil {
		return err
	}
	return c.signal(unix.Signal(req.Signal))
}
