package server

import (
	"log/slog"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// unseen is why an exit is unknown that no monitor saw.
const unseen = "the process ended while no monitor ran, and no pidfd of it was held"

// successor takes over an earlier monitor's containers.
type successor struct {
	journal    *journal.Journal
	containers *containers
	notifiers  *notifiers
	outputs    *outputs
	exits      *exits
	// settled makes sure that leftover output is settled once.
	settled sync.Once
	logger  *slog.Logger
}

// resume takes over what the journal names, with the descriptors that an upgrade left.
// A running container is found by its pid and verified by its start time, and its pipes
// are reopened through its processes. One that is gone is left to Adopt and Settle.
func (u *successor) resume(left map[string]belongings) {
	for _, intent := range u.journal.Intents() {
		u.logger.Warn("a monitor ended while a container was being created", "container", intent.Id)
		if intent.Process != nil {
			killStarting(intent)
		}
		if err := u.journal.Abandon(intent.Id); err != nil {
			u.logger.Error("journal a creation that failed", "container", intent.Id, "error", err)
		}
	}
	for _, record := range u.journal.Containers() {
		b, ok := left[record.Id]
		if !ok {
			b = noBelongings()
		}
		delete(left, record.Id)
		if err := u.resumeContainer(record, b); err != nil {
			u.logger.Error("take over a container", "container", record.Id, "error", err)
		}
	}
	for _, b := range left {
		b.close()
	}
}

// resumeContainer takes over a container. It owns the descriptors.
func (u *successor) resumeContainer(record *pb.Container, b belongings) error {
	c, fresh := u.containers.reserve(record.Id)
	if !fresh {
		b.close()
		return nil
	}
	c.adoptRecord(record)
	c.resumed = true
	c.notifier = u.notifiers.resume(record, &b)
	defer c.ready.happen()
	if b.stdout < 0 && b.stderr < 0 && b.terminal < 0 {
		b.stdout, b.stderr = stdio.Reopen(record)
	}
	if record.Exit != nil {
		c.exit = record.Exit
		c.once.Do(c.exited.happen)
		return u.resumeOutput(c, b)
	}
	if b.pidfd < 0 {
		pidfd, err := toIdentity(record.Process).Open()
		if err != nil {
			u.logger.Info("a container's process is gone", "container", c.id, "error", err)
			c.mu.Lock()
			c.lost = true
			c.mu.Unlock()
			return u.resumeOutput(c, b)
		}
		b.pidfd = pidfd
	}
	return u.takeUp(c, b)
}

// resumeOutput continues with output after a container's end, from other processes
// that hold its pipes.
func (u *successor) resumeOutput(c *container, b belongings) error {
	stdio.Close(b.pidfd, b.stdin)
	b.pidfd, b.stdin = -1, -1
	if b.stdout < 0 && b.stderr < 0 && b.terminal < 0 {
		return nil
	}
	return u.complete(c, b)
}

// adoptRecord sets an earlier monitor's record. The caller lets ready happen.
func (c *container) adoptRecord(record *pb.Container) {
	c.record = proto.CloneOf(record)
	c.record.Exit = nil
	c.stdinClosed = record.StdinClosed
}

// takeUp continues with an earlier monitor's running container. It owns the
// descriptors.
func (u *successor) takeUp(c *container, b belongings) error {
	pidfd := b.pidfd
	b.pidfd = -1
	c.mu.Lock()
	c.pidfd, c.lost = pidfd, false
	c.mu.Unlock()
	if err := u.complete(c, b); err != nil {
		return err
	}
	return u.exits.follow(c, pidfd)
}

// adopt takes over a container of a monitor that is gone, with the daemon's
// duplicates.
func (u *successor) adopt(req *pb.Adopt, from *descriptors) error {
	record := req.Container
	if record.GetId() == "" || record.GetProcess() == nil {
		return fail(pb.Failure_CODE_INVALID, "adopt: the container's id or process is missing")
	}
	c, fresh := u.containers.reserve(record.Id)
	if fresh {
		c.adoptRecord(record)
		if c.err = u.journal.Created(c.record); c.err != nil {
			u.containers.drop(c)
		} else {
			none := noBelongings()
			c.notifier = u.notifiers.resume(record, &none)
		}
		c.ready.happen()
	}
	if <-c.ready.done(); c.err != nil {
		return c.err
	}
	if toIdentity(c.record.Process) != toIdentity(record.Process) {
		return nil
	}
	c.mu.Lock()
	unheld := fresh || c.lost
	c.lost = false
	c.mu.Unlock()
	b := takeBelongings(from)
	switch {
	case c.hasExited():
		// It ended before its pipes could be reopened. What it left there is written
		// before the daemon asks for the exit.
		return u.resumeOutput(c, b)
	case !unheld:
		return u.complete(c, b)
	case b.pidfd < 0:
		err := u.resumeOutput(c, b)
		u.exits.unseen(c)
		return err
	default:
		return u.takeUp(c, b)
	}
}

// complete gives a container the descriptors that it lacks, and closes the rest.
func (u *successor) complete(c *container, b belongings) error {
	output, err := u.outputs.reading(c)
	if err != nil {
		b.close()
		return err
	}
	c.mu.Lock()
	if c.stdin < 0 && !c.stdinClosed {
		c.stdin, b.stdin = b.stdin, -1
	}
	if c.terminal < 0 {
		c.terminal, b.terminal = b.terminal, -1
	}
	terminal := c.terminal
	c.mu.Unlock()
	stdio.Close(b.pidfd, b.stdin, b.terminal)
	pipes, err := sources(b.stdout, b.stderr, terminal)
	if err != nil {
		return err
	}
	if err := output.Offer(pipes); err != nil {
		return err
	}
	if c.hasExited() {
		u.outputs.drain(c)
	}
	return nil
}

// settle reports what no one could report as unknown.
func (u *successor) settle() {
	u.settled.Do(func() { u.outputs.settle(u.containers.all()) })
	for _, c := range u.containers.all() {
		c.mu.Lock()
		lost := c.lost
		c.lost = false
		c.mu.Unlock()
		if lost {
			u.exits.unseen(c)
		}
	}
}
