package server

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// unseen is why nobody knows how a container ended that no monitor had.
const unseen = "the process ended while no monitor ran, and nobody held a pidfd of it"

// belongings are the descriptors by which a container is followed; -1 for those
// that are not there.
type belongings struct{ pidfd, stdin, stdout, stderr, terminal int }

func noBelongings() belongings { return belongings{-1, -1, -1, -1, -1} }

// takeBelongings takes what came with a request.
func takeBelongings(from *descriptors) belongings {
	return belongings{
		pidfd:    from.take(pb.Role_ROLE_PIDFD),
		stdin:    from.take(pb.Role_ROLE_STDIN),
		stdout:   from.take(pb.Role_ROLE_STDOUT),
		stderr:   from.take(pb.Role_ROLE_STDERR),
		terminal: from.take(pb.Role_ROLE_TERMINAL),
	}
}

// list returns those that are there.
func (b belongings) list() []int {
	all := []int{b.pidfd, b.stdin, b.stdout, b.stderr, b.terminal}
	return slices.DeleteFunc(all, func(fd int) bool { return fd < 0 })
}

func (b belongings) close() { closeAll(b.list()...) }

// resume takes up what the journal says, with the descriptors that are left from
// before an upgrade. A container that lives is found by its pid and known by its
// start time, and its pipes are opened again through its processes. One that is
// gone is left to Adopt and Settle.
func (s *Server) resume(left map[string]belongings) {
	for _, intent := range s.journal.Intents() {
		s.logger.Warn("a monitor ended while the runtime was creating a container", "container", intent.Id)
		if intent.Process != nil {
			killStarting(intent)
		}
		if err := s.journal.Abandon(intent.Id); err != nil {
			s.logger.Error("note that a container was not created", "container", intent.Id, "error", err)
		}
	}
	for _, record := range s.journal.Containers() {
		b, ok := left[record.Id]
		if !ok {
			b = noBelongings()
		}
		delete(left, record.Id)
		if err := s.resumeContainer(record, b); err != nil {
			s.logger.Error("go on with a container", "container", record.Id, "error", err)
		}
	}
	for _, b := range left {
		b.close()
	}
}

// resumeContainer takes up a container; the descriptors are its own from then on.
func (s *Server) resumeContainer(record *pb.Container, b belongings) error {
	c, fresh := s.reserve(record.Id)
	if !fresh {
		b.close()
		return nil
	}
	c.adoptRecord(record)
	c.resumed = true
	defer close(c.ready)
	if b.stdout < 0 && b.stderr < 0 && b.terminal < 0 {
		b.stdout, b.stderr = reopenPipes(record)
	}
	if record.Exit != nil {
		c.exit = record.Exit
		c.once.Do(func() { close(c.exited) })
		return s.resumeOutput(c, b)
	}
	if b.pidfd < 0 {
		pidfd, err := toIdentity(record.Process).Open()
		if err != nil {
			s.logger.Info("a container's process is gone", "container", c.id, "error", err)
			c.mu.Lock()
			c.lost = true
			c.mu.Unlock()
			return s.resumeOutput(c, b)
		}
		b.pidfd = pidfd
	}
	return s.takeUp(c, b)
}

// resumeOutput goes on with what others write who have a container's output after
// its end.
func (s *Server) resumeOutput(c *container, b belongings) error {
	closeAll(b.pidfd, b.stdin)
	b.pidfd, b.stdin = -1, -1
	if b.stdout < 0 && b.stderr < 0 && b.terminal < 0 {
		return nil
	}
	return s.complete(c, b)
}

// adoptRecord sets what is known of a container that another monitor had. The
// caller closes ready.
func (c *container) adoptRecord(record *pb.Container) {
	c.record = proto.CloneOf(record)
	c.record.Exit = nil
	c.stdinClosed = record.StdinClosed
}

// takeUp goes on with a container that another monitor began. The descriptors
// are its own from then on.
func (s *Server) takeUp(c *container, b belongings) error {
	pidfd := b.pidfd
	b.pidfd = -1
	c.mu.Lock()
	c.pidfd, c.lost = pidfd, false
	c.mu.Unlock()
	if err := s.complete(c, b); err != nil {
		return err
	}
	return s.follow(c, pidfd)
}

// logAgain opens the log of a container that another monitor began. Where that is
// refused, the output is dropped and counted until ReopenContainerLog is asked for,
// rather than the container held up.
func (s *Server) logAgain(c *container) *crilog.File {
	log, err := openLog(c.record.LogPath, c.record.MaxLogSize)
	if err != nil {
		s.logger.Error("open the log of a container again", "container", c.id, "error", err)
		return crilog.Closed(c.record.LogPath, c.record.MaxLogSize)
	}
	return log
}

// adopt goes on with a container of a monitor that is gone, with the descriptors
// that the daemon kept.
func (s *Server) adopt(req *pb.Adopt, from *descriptors) error {
	record := req.Container
	if record.GetId() == "" || record.GetProcess() == nil {
		return fail(pb.Failure_CODE_INVALID, "adopt: the container's id or process is missing")
	}
	c, fresh := s.reserve(record.Id)
	if fresh {
		c.adoptRecord(record)
		if c.err = s.journal.Created(c.record); c.err != nil {
			s.drop(c)
		}
		close(c.ready)
	}
	if <-c.ready; c.err != nil {
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
		// It ended before its pipes could be opened again. What it left there is
		// written before the daemon asks how it ended.
		return s.resumeOutput(c, b)
	case !unheld:
		return s.complete(c, b)
	case b.pidfd < 0:
		err := s.resumeOutput(c, b)
		s.unseen(c)
		return err
	default:
		return s.takeUp(c, b)
	}
}

// complete gives a container what it still lacks, and closes the rest.
func (s *Server) complete(c *container, b belongings) error {
	output, err := s.reading(c)
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
	closeAll(b.pidfd, b.stdin, b.terminal)
	pipes, err := sources(b.stdout, b.stderr, terminal)
	if err != nil {
		return err
	}
	if err := output.Offer(pipes); err != nil {
		return err
	}
	if c.hasExited() {
		s.drain(c)
	}
	return nil
}

// reading returns what is read of a container, of which there may be nothing yet.
func (s *Server) reading(c *container) (*pump.Output, error) {
	if output := c.outputs(); output != nil {
		return output, nil
	}
	output, err := s.pump.Attach(pump.Pipes{Stdout: -1, Stderr: -1}, s.logAgain(c))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	other := c.output
	if other == nil {
		c.output = output
	}
	c.mu.Unlock()
	if other != nil {
		return other, output.Close()
	}
	s.watchLosses(c)
	return output, nil
}

// attachPump begins to read what a container writes. The log is the pump's from
// then on, also with an error.
func (s *Server) attachPump(b belongings, log *crilog.File) (*pump.Output, error) {
	pipes, err := sources(b.stdout, b.stderr, b.terminal)
	if err != nil {
		closeLog(log)
		return nil, err
	}
	return s.pump.Attach(pipes, log)
}

// settleOutput writes what the monitor before this one had read and not written of
// pipes that are gone.
func (s *Server) settleOutput() {
	for _, c := range s.all() {
		gone := pump.Gone{Stdout: c.record.StdoutInode, Stderr: c.record.StderrInode}
		if !c.resumed || c.record.LogPath == "" || !s.pump.Holds(gone) {
			continue
		}
		log := s.logAgain(c)
		if err := s.pump.Finish(gone, log); err != nil {
			s.logger.Error("write the end of a container's output", "container", c.id, "error", err)
			continue
		}
		if bytes, reason := log.Lost(); bytes > 0 && c.outputs() == nil {
			s.losses.note(&pb.Loss{ContainerId: c.id, Bytes: c.record.LogLost + uint64(bytes), Reason: reason.Error()})
		}
	}
	dropped, err := s.pump.Settle()
	if err != nil || dropped > 0 {
		s.logger.Error("output of containers that nobody knows was dropped", "bytes", dropped, "error", err)
	}
}

// settle gives up on what nobody could tell anything of.
func (s *Server) settle() {
	s.settled.Do(s.settleOutput)
	for _, c := range s.all() {
		c.mu.Lock()
		lost := c.lost
		c.lost = false
		c.mu.Unlock()
		if lost {
			s.unseen(c)
		}
	}
	s.settleExecs()
}
