package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// killAnswer is how long a canceled Exec waits for the word that its process is
// dead.
const killAnswer = 15 * time.Second

// CreateRequest is what Create needs.
type CreateRequest struct {
	ContainerID string
	// Runtime is the absolute path of the OCI runtime.
	Runtime string
	// Args are all arguments after it: global ones, `create --bundle Bundle
	// --pid-file PidFile …` and the id. With `--log FILE` among them, errors
	// carry the last message of that file.
	Args    []string
	PidFile string
	// Bundle is the runtime's working directory.
	Bundle string
	// LogPath is the CRI log, an absolute path that has no link in any of its
	// elements: a link is an error, not followed. Missing directories are made.
	// Empty: output is read and dropped.
	LogPath string
	// MaxLogSize in bytes; 0 for no limit. A record that would make the file
	// longer starts a new file in its place.
	MaxLogSize int64
	// Stdin gives the container a pipe as standard input, which stays open
	// without anything to read; otherwise it gets /dev/null.
	Stdin     bool
	StdinOnce bool
	// Terminal is not implemented: Create fails with ErrUnimplemented.
	Terminal bool
	// Env is the runtime's whole environment; nil for this process's PATH only.
	Env []string
	// Deadline is how long the runtime may take; 0 for two minutes.
	Deadline time.Duration
}

// Process identifies a process: pids are used again.
type Process struct {
	PID int
	// StartTime is in clock ticks after boot, field 22 of /proc/PID/stat; 0 for
	// a process that was gone before anybody could look.
	StartTime uint64
	// Inode is the process's on pidfs; 0 on Linux before 6.9.
	Inode uint64
}

func toProcess(p *pb.Process) Process {
	return Process{PID: int(p.GetPid()), StartTime: p.GetStartTime(), Inode: p.GetInode()}
}

// Create runs the runtime as a child of the monitor, and returns the container's
// first process. For a container that the monitor has it returns that one's. The
// error is a *RuntimeError when the runtime said no, and ErrLost when the monitor
// ended meanwhile: then the runtime may have left something behind.
//
// A caller that goes away doesn't stop it.
func (c *Client) Create(ctx context.Context, r CreateRequest) (Process, error) {
	s, err := c.current(ctx)
	if err != nil {
		return Process{}, err
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
	}}})
	if err != nil {
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	f, err := call.nextRuntime(ctx, "create", r.Args)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// What was begun goes on, and its descriptors are to be kept.
		c.late.Go(func() { c.awaitCreate(call) })
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	call.close()
	if err != nil {
		return Process{}, fmt.Errorf("create container %s: %w", r.ContainerID, err)
	}
	process := toProcess(f.reply.GetContainer().GetProcess())
	c.hold(f)
	return process, nil
}

// awaitCreate keeps the descriptors of a container whose caller has gone.
func (c *Client) awaitCreate(create *call) {
	defer create.close()
	f, err := create.next(c.ctx)
	if err != nil {
		c.config.Logger.Warn("a container that nobody waited for was not created", "error", err)
		return
	}
	c.hold(f)
}

func environment(env []string) []string {
	if env == nil {
		return []string{"PATH=" + os.Getenv("PATH")}
	}
	return env
}

// ExecRequest is what Exec needs.
type ExecRequest struct {
	ContainerID string
	// ExecID is unique among the execs that run.
	ExecID  string
	Runtime string
	// Args are all arguments after the runtime: `exec --process FILE --detach
	// --pid-file PidFile …` and the id.
	Args    []string
	PidFile string
	// Env is the runtime's whole environment; nil for this process's PATH only.
	Env []string
	// Stdin, Stdout and Stderr become the process's, in blocking mode; /dev/null
	// for nil. They stay the caller's, who closes them after Exec was called, at
	// any time.
	Stdin, Stdout, Stderr *os.File
	// Timeout is for the whole call; 0 for none.
	Timeout time.Duration
}

// ExecResult tells how an exec's process ended.
type ExecResult struct {
	// Code is the exit code, or 128 + Signal.
	Code, Signal int
	// TimedOut says that the process and its session were killed, since Timeout
	// had passed.
	TimedOut bool
}

// Exec runs a process in a container and waits for its end, which is not that of
// its children: those may keep Stdout open. When ctx ends the process and its
// session are killed, and so they are when the daemon dies. The error is a
// *RuntimeError when the runtime said no.
func (c *Client) Exec(ctx context.Context, r ExecRequest) (ExecResult, error) {
	s, err := c.current(ctx)
	if err != nil {
		return ExecResult{}, err
	}
	request := &pb.Request{Call: &pb.Request_Exec{Exec: &pb.Exec{
		ContainerId: r.ContainerID,
		ExecId:      r.ExecID,
		Runtime:     r.Runtime,
		Args:        r.Args,
		Env:         environment(r.Env),
		PidFile:     r.PidFile,
		Timeout:     int64(r.Timeout),
	}}}
	var fds []int
	for role, file := range map[pb.Role]*os.File{
		pb.Role_ROLE_STDIN:  r.Stdin,
		pb.Role_ROLE_STDOUT: r.Stdout,
		pb.Role_ROLE_STDERR: r.Stderr,
	} {
		if file != nil {
			request.Descriptors = append(request.Descriptors, role)
			fds = append(fds, int(file.Fd()))
		}
	}
	call, err := s.start(request, fds...)
	runtime.KeepAlive([]*os.File{r.Stdin, r.Stdout, r.Stderr})
	if err != nil {
		return ExecResult{}, fmt.Errorf("exec in container %s: %w", r.ContainerID, err)
	}
	defer call.close()
	f, err := call.nextRuntime(ctx, "exec", r.Args)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ExecResult{}, errors.Join(err, c.killExec(s, call, r.ExecID))
	}
	if err != nil {
		return ExecResult{}, fmt.Errorf("exec in container %s: %w", r.ContainerID, err)
	}
	f.close()
	ended := f.reply.GetExecEnded()
	return ExecResult{Code: int(ended.GetCode()), Signal: int(ended.GetSignal()), TimedOut: ended.GetTimedOut()}, nil
}

// killExec ends an exec whose caller has gone, and waits until it is dead.
func (c *Client) killExec(s *session, exec *call, id string) error {
	ctx, cancel := context.WithTimeout(c.ctx, killAnswer)
	defer cancel()
	err := s.do(ctx, &pb.Request{Call: &pb.Request_KillExec{KillExec: &pb.KillExec{ExecId: id}}})
	if err == nil {
		var f frame
		// Its answer, mostly that it was canceled, has no one to interest.
		f, err = exec.next(ctx)
		f.close()
		if ctx.Err() == nil {
			return nil
		}
	}
	return fmt.Errorf("kill exec %s: %w", id, err)
}

// Ack says that all exits up to and including seq are in the event log.
func (c *Client) Ack(ctx context.Context, seq uint64) error {
	return c.do(ctx, "acknowledge exits", &pb.Request{Call: &pb.Request_Ack{Ack: &pb.Ack{Seq: seq}}})
}

// ReopenLog opens the container's log by its path again, after that was renamed.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	return c.do(ctx, "reopen the log of container "+id, &pb.Request{Call: &pb.Request_ReopenLog{ReopenLog: &pb.ReopenLog{ContainerId: id}}})
}

// Signal sends a signal to the container's first process. One that has ended is
// no error.
func (c *Client) Signal(ctx context.Context, id string, signal int) error {
	return c.do(ctx, "signal container "+id, &pb.Request{Call: &pb.Request_Signal{Signal: &pb.Signal{ContainerId: id, Signal: int32(signal)}}})
}

// Forget drops a container whose first process has ended and that the runtime
// has deleted. It waits a few seconds for an end that is not known yet, and then
// fails with ErrRunning. A container that the monitor doesn't know is forgotten.
func (c *Client) Forget(ctx context.Context, id string) error {
	err := c.do(ctx, "forget container "+id, &pb.Request{Call: &pb.Request_Forget{Forget: &pb.Forget{ContainerId: id}}})
	if err == nil {
		c.release(id)
	}
	return err
}

// Container is what the monitor knows of a container.
type Container struct {
	ID      string
	Process Process
	// Exit is nil while the first process runs.
	Exit *Exit
	// LogLost counts the bytes of output that could not be written to the log,
	// for the reason LogError.
	LogLost  uint64
	LogError string
}

// List returns the containers that the monitor has, by id.
func (c *Client) List(ctx context.Context) ([]Container, error) {
	var all []Container
	err := c.retry(ctx, func(s *session) error {
		containers, err := s.list(ctx)
		all = nil
		for _, container := range containers {
			all = append(all, toContainer(container))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the monitor's containers: %w", err)
	}
	return all, nil
}

func toContainer(c *pb.Container) Container {
	container := Container{ID: c.Id, Process: toProcess(c.Process), LogLost: c.LogLost, LogError: c.LogError}
	if c.Exit != nil {
		exit := toExit(c.Exit)
		container.Exit = &exit
	}
	return container
}

// Shutdown ends the monitor, and with it the Client: it can only be closed
// afterwards. It fails with ErrRunning while a container runs.
func (c *Client) Shutdown(ctx context.Context) error {
	c.setLeaving(true)
	err := c.do(ctx, "shut the monitor down", &pb.Request{Call: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{}}})
	if err != nil {
		c.setLeaving(false)
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the monitor's end: %w", ctx.Err())
	}
}

func (c *Client) setLeaving(leaving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = leaving
}

// do sends a request that can be repeated and has no result.
func (c *Client) do(ctx context.Context, what string, req *pb.Request) error {
	if err := c.retry(ctx, func(s *session) error { return s.do(ctx, req) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
