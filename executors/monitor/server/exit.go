package server

import (
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/cgroup"
	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// drainWait is how long an exit waits for the last output to be written: only a
	// hanging disk takes so long.
	drainWait = 10 * time.Second
	// noteTerminal is the note in an exit whose terminal was lost.
	noteTerminal = "the terminal hung up because for a time no process held it, and the container got SIGHUP"
)

// exits carries exits of containers' first processes from the kernel to the journal.
type exits struct {
	journal  *journal.Journal
	reaper   *reaper.Reaper
	follower *follower
	outputs  *outputs
	ooms     *cgroup.Ledger
	// ends is entered by each exit until it is in the journal.
	ends   *gate
	logger *slog.Logger
}

// teller returns the function that takes the status of a container's first process. It
// looks for OOM kills and the memory's peak at once: the cgroup may be removed at any time.
func (x *exits) teller(c *container, oom cgroup.OOMMark) func(reaper.Status) {
	x.ooms.Enter(c.id, oom.File)
	return func(status reaper.Status) {
		x.ends.admit()
		used := cgroup.MemoryOf(oom.File)
		killed := x.ooms.Leave(c.id, oom, status.Code == 128+int(unix.SIGKILL))
		go func() {
			defer x.ends.leave()
			x.ended(c, status, memory{used, killed})
		}()
	}
}

// memory is what a container used of it, and whether the kernel killed for want of it.
type memory struct {
	cgroup.Memory
	oomKilled bool
}

// ended journals the exit of a container's first process, once, after the output left
// in the pipes was written: whoever sees the exit finds the whole log.
func (x *exits) ended(c *container, status reaper.Status, used memory) {
	<-c.ready.done()
	if c.err != nil {
		return
	}
	c.once.Do(func() {
		x.outputs.drain(c)
		c.exit = &pb.Exit{
			ContainerId: c.id,
			Process:     c.record.Process,
			Code:        int32(status.Code),
			Signal:      int32(status.Signal),
			OomKilled:   used.oomKilled,
			MemoryPeak:  used.Peak,
			MemoryLimit: used.Limit,
			Time:        status.Time.UnixNano(),
			SinceBoot:   int64(status.SinceBoot),
			Unknown:     status.Unknown,
		}
		c.notifier.tell()
		var notes []string
		if c.hungUp() {
			notes = append(notes, noteTerminal)
		}
		if c.notifier.counted().GetGap() {
			notes = append(notes, noteGap)
		}
		c.exit.Note = strings.Join(notes, "; ")
		if err := x.journal.Exited(c.exit); err != nil {
			x.logger.Error("journal an exit", "container", c.id, "error", err)
		}
		c.exited.happen()
	})
}

// unseen reports a container whose exit nobody saw.
func (x *exits) unseen(c *container) {
	status := reaper.Now()
	status.Unknown = unseen
	x.teller(c, c.oomMark())(status)
}

// oomMark returns the count of OOM kills before the container started.
func (c *container) oomMark() cgroup.OOMMark {
	return cgroup.OOMMark{File: c.record.OomFile, Kills: c.record.OomKills}
}

// follow follows the first process of an earlier monitor's container. After an upgrade
// the process is a child; after a monitor's death it is not.
func (x *exits) follow(c *container, pidfd int) error {
	tell := x.teller(c, c.oomMark())
	if isOwnChild(c.record.Process) {
		x.reaper.Begin()
		defer x.reaper.End()
		twin, err := x.reaper.Follow(int(c.record.Process.Pid), tell)
		stdio.Close(twin)
		return err
	}
	return x.follower.follow(pidfd, tell)
}
