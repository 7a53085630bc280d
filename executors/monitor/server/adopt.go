package server

import (
	"fmt"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// unseen is why nobody knows how a container ended that no monitor had.
const unseen = "the process ended while no monitor ran, and nobody held a pidfd of it"

// resume takes up what the journal says. A container that lives is found by its
// pid and known by its start time, and its pipes are opened again through its
// descriptors. One that is gone is left to Adopt and Settle.
func (s *Server) resume() {
	for _, id := range s.journal.Intents() {
		s.logger.Warn("a monitor ended while the runtime was creating a container", "container", id)
		if err := s.journal.Abandon(id); err != nil {
			s.logger.Error("note that a container was not created", "container", id, "error", err)
		}
	}
	for _, record := range s.journal.Containers() {
		c, fresh := s.reserve(record.Id)
		if !fresh {
			continue
		}
		c.record = proto.CloneOf(record)
		c.record.Exit = nil
		close(c.ready)
		if record.Exit != nil {
			c.exit = record.Exit
			c.once.Do(func() { close(c.exited) })
			continue
		}
		pidfd, err := findProcess(record.Process)
		if err != nil {
			s.logger.Info("a container's process is gone", "container", c.id, "error", err)
			c.mu.Lock()
			c.lost = true
			c.mu.Unlock()
			continue
		}
		pipes := reopenPipes(record)
		if err := s.takeUp(c, pidfd, pipes, -1); err != nil {
			s.logger.Error("go on with a container", "container", c.id, "error", err)
		}
	}
}

// findProcess returns a pidfd of a process that is known by its identity.
func findProcess(p *pb.Process) (int, error) {
	pid := int(p.GetPid())
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open a pidfd of process %d: %w", pid, err)
	}
	// With the pidfd open, the pid can't change hands between the two questions.
	if started := reaper.StartTime(pid); started != p.GetStartTime() || reaper.Inode(pidfd) != p.GetInode() {
		_ = unix.Close(pidfd)
		return -1, fmt.Errorf("process %d is another than it was", pid)
	}
	return pidfd, nil
}

// reopenPipes opens a container's pipes through the descriptors of its first
// process. Only the pipes that the monitor made are taken, which their inodes
// tell: a container can put other files there.
func reopenPipes(record *pb.Container) pump.Pipes {
	open := func(number int, want uint64) int {
		if want == 0 {
			return -1
		}
		path := fmt.Sprintf("/proc/%d/fd/%d", record.GetProcess().GetPid(), number)
		// Looked at first, since opening another file could have effects.
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Ino != want {
			return -1
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		if inode(fd) != want {
			_ = unix.Close(fd)
			return -1
		}
		return fd
	}
	return pump.Pipes{Stdout: open(1, record.StdoutInode), Stderr: open(2, record.StderrInode)}
}

// takeUp goes on with a container that another monitor began. The descriptors
// are its own from then on.
func (s *Server) takeUp(c *container, pidfd int, pipes pump.Pipes, stdin int) error {
	log, err := openLog(c.record.LogPath, c.record.MaxLogSize)
	if err != nil {
		// Without a log the output is dropped, rather than the container held up.
		s.logger.Error("open the log of a container again", "container", c.id, "error", err)
	}
	output, err := s.pump.Attach(pipes, log)
	c.mu.Lock()
	c.output, c.pidfd, c.stdin, c.lost = output, pidfd, stdin, false
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return s.followForeign(pidfd, func(status reaper.Status) { s.ended(c, status) })
}

// adopt goes on with a container of a monitor that is gone, with the descriptors
// that the daemon kept.
func (s *Server) adopt(req *pb.Adopt, from *descriptors) error {
	defer from.close()
	record := req.Container
	if record.GetId() == "" || record.GetProcess() == nil {
		return fail(pb.Failure_CODE_INVALID, "adopt: the container's id or process is missing")
	}
	c, fresh := s.reserve(record.Id)
	if fresh {
		c.record = proto.CloneOf(record)
		c.record.Exit = nil
		if c.err = s.journal.Created(c.record); c.err != nil {
			s.drop(c)
		}
		close(c.ready)
	}
	if <-c.ready; c.err != nil {
		return c.err
	}
	if c.hasExited() {
		return nil
	}
	c.mu.Lock()
	unheld := fresh || c.lost
	c.lost = false
	c.mu.Unlock()
	pipes := pump.Pipes{Stdout: from.take(pb.Role_ROLE_STDOUT), Stderr: from.take(pb.Role_ROLE_STDERR)}
	if !unheld {
		return c.complete(pipes, from.take(pb.Role_ROLE_STDIN))
	}
	pidfd := from.take(pb.Role_ROLE_PIDFD)
	if pidfd < 0 {
		pipes.Close()
		go s.ended(c, unknown(unseen))
		return nil
	}
	return s.takeUp(c, pidfd, pipes, from.take(pb.Role_ROLE_STDIN))
}

// complete gives a container that goes on already what it still lacks.
func (c *container) complete(pipes pump.Pipes, stdin int) error {
	c.mu.Lock()
	output := c.output
	if c.stdin < 0 {
		c.stdin, stdin = stdin, -1
	}
	c.mu.Unlock()
	closeAll(stdin)
	if output == nil {
		pipes.Close()
		return nil
	}
	return output.Offer(pipes)
}

// settle gives up on the containers that nobody could tell anything of.
func (s *Server) settle() {
	for _, c := range s.all() {
		c.mu.Lock()
		lost := c.lost
		c.lost = false
		c.mu.Unlock()
		if lost {
			go s.ended(c, unknown(unseen))
		}
	}
}

func unknown(why string) reaper.Status {
	status := reaper.Now()
	status.Unknown = why
	return status
}
