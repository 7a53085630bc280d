package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// CreateRequest is what Create needs.
type CreateRequest struct {
	ContainerID string
	// Runtime is the absolute path of the OCI runtime.
	Runtime string
	// Args are all arguments after it: global ones, `create --bundle Bundle
	// --pid-file PidFile …` and the id. With `--log FILE` among them, errors carry
	// that file's last message.
	Args    []string
	PidFile string
	// Bundle is the runtime's working directory.
	Bundle string
	// LogPath is the CRI log, an absolute path without symbolic links: a link is an
	// error. Missing directories are made. Empty: output is read and dropped.
	LogPath string
	// MaxLogSize in bytes; 0 for no limit. A record that would exceed it starts a new
	// file in place of the old.
	MaxLogSize int64
	// Stdin gives the container a pipe as standard input, which stays open for
	// clients that attach; otherwise it gets /dev/null.
	Stdin bool
	// StdinOnce closes that pipe when the first client that attached to it has gone
	// or has closed its input.
	StdinOnce bool
	// Terminal gives the container a pseudoterminal instead of pipes; the runtime's
	// configuration must ask for one too. The monitor then puts `--console-socket
	// PATH` before the last of Args.
	Terminal bool
	// Env is the runtime's whole environment; nil for this process's PATH only.
	Env []string
	// Deadline is how long the runtime may take; 0 for two minutes.
	Deadline time.Duration
	// Owner gets the container's pipes; nil leaves them root's.
	Owner *Owner
	// Notifier answers the calls that the container's seccomp profile reports; nil for none.
	Notifier *Notifier
}

// Owner is a user and a group of the node.
type Owner struct{ UID, GID int }

// own changes the owner of the pipes among a container's descriptors.
func (o *Owner) own(f frame) error {
	if o == nil {
		return nil
	}
	for i, role := range f.reply.GetDescriptors() {
		switch role {
		case pb.Role_ROLE_STDIN, pb.Role_ROLE_STDOUT, pb.Role_ROLE_STDERR:
			if err := unix.Fchown(f.fds[i], o.UID, o.GID); err != nil {
				return fmt.Errorf("give a container its streams: %w", err)
			}
		}
	}
	return nil
}

// Process identifies a process: pids are reused.
type Process = proc.Identity

func toProcess(p *pb.Process) Process {
	return Process{PID: int(p.GetPid()), StartTime: p.GetStartTime(), Inode: p.GetInode()}
}

// Create runs the runtime as a child of the monitor and returns the container's first
// process. It returns the existing one for a container that the monitor already has.
// The error is a *RuntimeError if the runtime failed, and ErrLost if the monitor ended
// meanwhile: then the runtime may have left something behind.
//
// A caller that goes away does not stop it.
func (c *Client) Create(ctx context.Context, r CreateRequest) (Process, error) {
	for {
		s, err := c.link.current(ctx)
		if err != nil {
			return Process{}, err
		}
		process, err := c.create(ctx, s, r)
		if !errors.Is(err, ErrLost) || !c.link.wasUpgraded(ctx, s) {
			return process, err
		}
	}
}

func (c *Client) create(ctx context.Context, s *session, r CreateRequest) (Process, error) {
	if r.Terminal && !s.speaks(versionTerminals) {
		return Process{}, fmt.Errorf("create container %s with a terminal: %w", r.ContainerID, s.tooOld())
	}
	if r.Notifier != nil && !s.speaks(versionNotifier) {
		return Process{}, fmt.Errorf("create container %s with a seccomp notifier: %w", r.ContainerID, s.tooOld())
	}
	call, err := s.start(&pb.Request{Call: &pb.Request_Create{Create: &pb.Create{
		ContainerId: r.ContainerID,
		Runtime:     r.Runtime,
		Args:        r.Args,
		Env:         environment(r.Env),
		Bundle:      r.Bundle,
		PidFile:     r.PidFile,
		LogPath:     r.LogPath,
		MaxLogSize:  r.MaxLogSize,
		Stdin:       r.Stdin,
		StdinOnce:   r.StdinOnce,
		Terminal:    r.Terminal,
		Deadline:    int64(r.Deadline),
		Notifier:    r.Notifier.message(),
	}}})
	if err != nil {
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	f, err := call.nextRuntime(ctx, "create", r.Args)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// The creation continues, and its descriptors must be kept.
		c.late.Go(func() { c.awaitCreate(call, r.ContainerID, r.Owner) })
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	call.close()
	if err != nil {
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	process := toProcess(f.reply.GetContainer().GetProcess())
	err = r.Owner.own(f)
	c.held.hold(r.ContainerID, f)
	return process, err
}

// awaitCreate keeps the descriptors of a container whose caller has gone.
func (c *Client) awaitCreate(create *call, id string, owner *Owner) {
	defer create.close()
	f, err := create.next(c.link.ctx)
	if err != nil {
		c.config.Logger.Warn("a container whose caller had gone was not created", "error", err)
		return
	}
	if err := owner.own(f); err != nil {
		c.config.Logger.Warn("a container's streams are not its own", "error", err)
	}
	c.held.hold(id, f)
}

func environment(env []string) []string {
	if env == nil {
		return []string{"PATH=" + os.Getenv("PATH")}
	}
	return env
}

// Ack reports that all exits up to and including seq are in the event log.
func (c *Client) Ack(ctx context.Context, seq uint64) error {
	return c.do(ctx, "acknowledge exits", &pb.Request{Call: &pb.Request_Ack{Ack: &pb.Ack{Seq: seq}}})
}

// ReopenLog reopens the container's log by its path, after the file was renamed.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	return c.do(ctx, "reopen the log of container "+id, &pb.Request{Call: &pb.Request_ReopenLog{ReopenLog: &pb.ReopenLog{ContainerId: id}}})
}

// Resize sets the size of a container's terminal, in characters.
func (c *Client) Resize(ctx context.Context, id string, width, height uint16) error {
	req := &pb.Request{Call: &pb.Request_Resize{Resize: &pb.Resize{ContainerId: id, Width: uint32(width), Height: uint32(height)}}}
	err := c.link.retry(ctx, func(s *session) error {
		if !s.speaks(versionTerminals) {
			return s.tooOld()
		}
		return s.do(ctx, req)
	})
	if err != nil {
		return fmt.Errorf("resize the terminal of container %s: %w", id, err)
	}
	return nil
}

// Signal sends a signal to the container's first process, by the pidfd that is held
// here, so that it needs no monitor. A process that has ended is no error.
func (c *Client) Signal(ctx context.Context, id string, signal int) error {
	if held, err := c.held.signal(id, unix.Signal(signal)); held {
		if err != nil {
			return fmt.Errorf("signal container %s: %w", id, err)
		}
		return nil
	}
	return c.do(ctx, "signal container "+id, &pb.Request{Call: &pb.Request_Signal{Signal: &pb.Signal{ContainerId: id, Signal: int32(signal)}}})
}

// Forget drops a container whose first process has ended and that the runtime has
// deleted. It waits a few seconds for an end that is not known yet, and then fails
// with ErrRunning. An unknown container counts as forgotten.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.ForgetEnded(ctx, id)
	return err
}

// ForgetEnded is Forget, and returns how the first process ended; nil if the monitor
// does not know. Exits also yields that exit, until it is acknowledged.
func (c *Client) ForgetEnded(ctx context.Context, id string) (*Exit, error) {
	var exit *Exit
	err := c.link.retry(ctx, func(s *session) error {
		f, err := s.roundTrip(ctx, &pb.Request{Call: &pb.Request_Forget{Forget: &pb.Forget{ContainerId: id}}})
		defer f.close()
		if e := f.reply.GetExit(); err == nil && e != nil {
			told := toExit(e)
			exit = &told
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("forget container %s: %w", id, err)
	}
	c.held.release(id)
	return exit, nil
}

// Container is what the monitor knows of a container.
type Container struct {
	ID      string
	Process Process
	// Exit is nil while the first process runs.
	Exit *Exit
	// LogPath is the CRI log; empty for a container whose output is dropped.
	LogPath string
	// LogLost is how many bytes of output could not be written to the log, and
	// LogError the last reason.
	LogLost  uint64
	LogError string
	// StdinClosed: StdinOnce has closed the container's standard input for good.
	StdinClosed bool
	// TerminalLost: for a time no process held the master of the container's terminal,
	// so the kernel hung it up and sent the container SIGHUP.
	TerminalLost bool
}

// List returns the containers that the monitor has, by id.
func (c *Client) List(ctx context.Context) ([]Container, error) {
	all, err := c.list(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the monitor's containers: %w", err)
	}
	return all, nil
}

// Container returns one container; ErrNotFound if the monitor does not have it.
func (c *Client) Container(ctx context.Context, id string) (Container, error) {
	found, err := c.list(ctx, id)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Container{}, fmt.Errorf("ask for container %s: %w", id, err)
	}
	return found[0], nil
}

func (c *Client) list(ctx context.Context, only string) ([]Container, error) {
	var all []Container
	err := c.link.retry(ctx, func(s *session) error {
		containers, err := s.list(ctx, only)
		all = nil
		for _, container := range containers {
			all = append(all, toContainer(container))
		}
		return err
	})
	return all, err
}

func toContainer(c *pb.Container) Container {
	container := Container{
		ID:           c.Id,
		Process:      toProcess(c.Process),
		LogPath:      c.LogPath,
		LogLost:      c.LogLost,
		LogError:     c.LogError,
		StdinClosed:  c.StdinClosed,
		TerminalLost: c.TerminalLost,
	}
	if c.Exit != nil {
		exit := toExit(c.Exit)
		container.Exit = &exit
	}
	return container
}

// Shutdown ends the monitor, and the Client with it, which can then only be closed.
// It fails with ErrRunning while a container runs.
func (c *Client) Shutdown(ctx context.Context) error {
	c.link.setLeaving(true)
	err := c.do(ctx, "shut the monitor down", &pb.Request{Call: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{}}})
	if err != nil {
		c.link.setLeaving(false)
		return err
	}
	select {
	case <-c.link.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the monitor's end: %w", ctx.Err())
	}
}

// do sends a repeatable request that has no result.
func (c *Client) do(ctx context.Context, what string, req *pb.Request) error {
	if err := c.link.retry(ctx, func(s *session) error { return s.do(ctx, req) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
