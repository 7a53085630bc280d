package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// killAnswer is how long a canceled Exec waits for its process's death to be
// confirmed.
const killAnswer = 15 * time.Second

// ExecRequest is what Exec needs.
type ExecRequest struct {
	ContainerID string
	// ExecID is unique among running execs.
	ExecID  string
	Runtime string
	// Args are all arguments after the runtime: `exec --process FILE --detach
	// --pid-file PidFile …` and the id.
	Args    []string
	PidFile string
	// Env is the runtime's whole environment; nil for this process's PATH only.
	Env []string
	// Stdin, Stdout and Stderr become the process's, in blocking mode; /dev/null for
	// nil. The caller keeps them, and may close them once StartExec or Exec was called.
	Stdin, Stdout, Stderr *os.File
	// Terminal gives the process a pseudoterminal instead; its configuration must ask
	// for one too. The monitor puts `--console-socket PATH` before the last of Args.
	Terminal bool
	// Timeout is for the whole call; 0 for none.
	Timeout time.Duration
}

// ExecResult tells how an exec's process ended.
type ExecResult struct {
	// Code is the exit code, or 128 + Signal.
	Code, Signal int
	// TimedOut: Timeout passed, and the process and its descendants were killed.
	TimedOut bool
}

// Exec is a process in a container.
type Exec struct {
	// Terminal is the master of the process's terminal; nil if it has none. The
	// caller closes it, also after Wait has failed.
	Terminal *os.File

	client  *Client
	request ExecRequest
	ctx     context.Context
	// deadline is when Timeout passes; zero for none.
	deadline time.Time
	call     *call
	// early is a result that arrived in place of ExecStarted.
	early *pb.ExecEnded
	// process is zero if the monitor is too old to send it.
	process Process
	// adopted receives the call by which the next monitor follows the process.
	adopted chan *call

	mu sync.Mutex
	// pidfd is the process's; -1 for none.
	pidfd int
}

// Exec runs a process in a container and waits for its end, but not for its children,
// which may keep Stdout open. The process and its descendants are killed when ctx
// ends, when the timeout has passed, and when the daemon dies. They and the call
// survive the monitor. The error is a *RuntimeError if the runtime failed.
func (c *Client) Exec(ctx context.Context, r ExecRequest) (ExecResult, error) {
	e, err := c.StartExec(ctx, r)
	if err != nil {
		return ExecResult{}, err
	}
	if e.Terminal != nil {
		// It will not be read.
		defer e.Terminal.Close()
	}
	return e.Wait()
}

// StartExec is Exec but returns as soon as the process is running. Wait must be
// called; ctx and the timeout cover both.
func (c *Client) StartExec(ctx context.Context, r ExecRequest) (*Exec, error) {
	for {
		s, err := c.link.current(ctx)
		if err != nil {
			return nil, err
		}
		e, err := c.startExec(ctx, s, r)
		if !errors.Is(err, ErrLost) || !s.speaks(versionTerminals) || !c.link.wasUpgraded(ctx, s) {
			return e, err
		}
	}
}

func (c *Client) startExec(ctx context.Context, s *session, r ExecRequest) (*Exec, error) {
	if r.Terminal && !s.speaks(versionTerminals) {
		return nil, fmt.Errorf("exec in container %s with a terminal: %w", r.ContainerID, s.tooOld())
	}
	e := &Exec{client: c, request: r, ctx: ctx, pidfd: -1, adopted: make(chan *call, 1)}
	if r.Timeout > 0 {
		e.deadline = time.Now().Add(r.Timeout)
	}
	var err error
	if e.call, err = s.startExec(r); err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", r.ContainerID, err)
	}
	if !s.speaks(versionTerminals) {
		return e, nil // Wait gets the one reply.
	}
	f, err := e.call.nextRuntime(ctx, "exec", r.Args)
	if err != nil {
		defer e.call.close()
		return nil, e.failed(err)
	}
	if ended := f.reply.GetExecEnded(); ended != nil {
		f.close()
		e.early = ended
		return e, nil
	}
	e.started(f)
	return e, nil
}

// startExec sends the request.
func (s *session) startExec(r ExecRequest) (*call, error) {
	request := &pb.Request{Call: &pb.Request_Exec{Exec: &pb.Exec{
		ContainerId: r.ContainerID,
		ExecId:      r.ExecID,
		Runtime:     r.Runtime,
		Args:        r.Args,
		Env:         environment(r.Env),
		PidFile:     r.PidFile,
		Timeout:     int64(r.Timeout),
		Terminal:    r.Terminal,
	}}}
	var fds []int
	for role, file := range map[pb.Role]*os.File{
		pb.Role_ROLE_STDIN:  r.Stdin,
		pb.Role_ROLE_STDOUT: r.Stdout,
		pb.Role_ROLE_STDERR: r.Stderr,
	} {
		if file != nil && !r.Terminal {
			request.Descriptors = append(request.Descriptors, role)
			fds = append(fds, int(file.Fd()))
		}
	}
	call, err := s.start(request, fds...)
	runtime.KeepAlive([]*os.File{r.Stdin, r.Stdout, r.Stderr})
	return call, err
}

// started takes the process and its descriptors from ExecStarted.
func (e *Exec) started(f frame) {
	e.process = toProcess(f.reply.GetExecStarted().GetProcess())
	for i, role := range f.reply.Descriptors {
		switch {
		case i >= len(f.fds):
		case role == pb.Role_ROLE_PIDFD && e.pidfd < 0:
			e.pidfd, f.fds[i] = f.fds[i], -1
		case role == pb.Role_ROLE_TERMINAL && e.Terminal == nil:
			// Non-blocking, so that Close ends reads.
			_ = unix.SetNonblock(f.fds[i], true)
			e.Terminal, f.fds[i] = os.NewFile(uintptr(f.fds[i]), "terminal of an exec"), -1
		}
	}
	f.close()
	e.client.execs.add(e)
}

// Process returns the exec's first process; zero if the monitor is too old to send
// it.
func (e *Exec) Process() Process { return e.process }

// Resize sets the size of the terminal, in characters.
func (e *Exec) Resize(width, height uint16) error {
	if e.Terminal == nil {
		return fmt.Errorf("resize the terminal of exec %s: it has none", e.request.ExecID)
	}
	raw, err := e.Terminal.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize the terminal of exec %s: %w", e.request.ExecID, err)
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if err = errors.Join(err, setErr); err != nil {
		return fmt.Errorf("resize the terminal of exec %s: %w", e.request.ExecID, err)
	}
	return nil
}

// Wait waits for the process to end. It must be called once.
func (e *Exec) Wait() (ExecResult, error) {
	defer e.release()
	if e.early != nil {
		return toExecResult(e.early), nil
	}
	f, err := e.call.nextRuntime(e.ctx, "exec", e.request.Args)
	if err == nil {
		f.close()
		return toExecResult(f.reply.GetExecEnded()), nil
	}
	if errors.Is(err, ErrLost) && e.pidfd >= 0 && e.client.link.ctx.Err() == nil {
		return e.goOn()
	}
	return ExecResult{}, e.failed(err)
}

// failed returns the error for a call that ended with err. If the caller has gone, it
// kills the process.
func (e *Exec) failed(err error) error {
	if e.ctx.Err() == nil || !errors.Is(err, e.ctx.Err()) {
		return fmt.Errorf("exec in container %s: %w", e.request.ContainerID, err)
	}
	return errors.Join(err, e.kill())
}

// kill kills an exec whose caller has gone, and waits until it is dead.
func (e *Exec) kill() error {
	ctx, cancel := context.WithTimeout(e.client.link.ctx, killAnswer)
	defer cancel()
	id := e.request.ExecID
	err := e.call.session.do(ctx, &pb.Request{Call: &pb.Request_KillExec{KillExec: &pb.KillExec{ExecId: id}}})
	if err == nil {
		var f frame
		// The exec's own answer, mostly "canceled", is of no interest.
		f, err = e.call.next(ctx)
		f.close()
		if ctx.Err() == nil && !errors.Is(err, ErrLost) {
			return nil
		}
	}
	if errors.Is(err, ErrLost) {
		proc.KillTree(e.process)
		return nil
	}
	return fmt.Errorf("kill exec %s: %w", id, err)
}

func (e *Exec) release() {
	e.client.execs.remove(e)
	e.call.close()
	e.mu.Lock()
	closeAll([]int{e.pidfd})
	e.pidfd = -1
	e.mu.Unlock()
	select {
	case adopted := <-e.adopted:
		adopted.close()
	default:
	}
}

func toExecResult(ended *pb.ExecEnded) ExecResult {
	return ExecResult{Code: int(ended.GetCode()), Signal: int(ended.GetSignal()), TimedOut: ended.GetTimedOut()}
}
