package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// execs are processes started in containers.
type execs struct {
	home       *home
	journal    *journal.Journal
	runtimes   *runtimes
	follower   *follower
	containers *containers
	// starts is entered while an exec is being started, ends from a process's end
	// until that was answered.
	starts, ends *gate
	logger       *slog.Logger

	mu sync.Mutex
	// awaited are those that a connection waits for, orphans those that the journal
	// names and no daemon has adopted yet, both by id.
	awaited map[string]*execution
	orphans map[string]*execProcess
}

// execution is an exec that a connection waits for.
type execution struct {
	id string
	// ctx ends when the process is to be killed.
	ctx  context.Context
	kill context.CancelFunc
	// The rest belongs to the goroutine that answers.

	// process is nil until it runs.
	process *execProcess
	// leave lets upgrades continue. Until then nothing was answered, so that a daemon
	// whose connection ends may assume that nothing was done. It may be nil.
	leave func()
}

// await notes an exec, so that kill finds it, until done is called, after the reply
// was sent.
func (x *execs) await(parent context.Context, id string) (e *execution, done func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.awaited[id]; ok || id == "" {
		return nil, func() {}, fail(pb.Failure_CODE_INVALID, "the exec id %q is missing, or of an exec that runs", id)
	}
	e = &execution{id: id}
	e.ctx, e.kill = context.WithCancel(parent)
	x.awaited[id] = e
	return e, func() {
		e.kill()
		x.mu.Lock()
		delete(x.awaited, id)
		x.mu.Unlock()
		if e.leave != nil {
			e.leave()
		}
		if e.process != nil {
			e.process.finish()
		}
	}, nil
}

// kill kills an exec, which then answers that it was canceled. An unknown one has
// ended.
func (x *execs) kill(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.awaited[id]; ok {
		e.kill()
	}
}

// exec runs a process in a container and waits for it.
func (n *session) exec(e *execution, id uint64, req *pb.Exec, files *descriptors) (*pb.ExecEnded, error) {
	x := n.server.execs
	if err := x.check(req); err != nil {
		return nil, err
	}
	if req.Terminal && n.version < versionTerminals {
		return nil, fail(pb.Failure_CODE_UNIMPLEMENTED, "exec %s: version %d of the protocol has no terminals", req.ExecId, n.version)
	}
	var deadline <-chan time.Time
	if req.Timeout > 0 {
		timer := time.NewTimer(time.Duration(req.Timeout))
		defer timer.Stop()
		deadline = timer.C
	}
	if err := x.starts.enter(e.ctx); err != nil {
		return nil, err
	}
	e.leave = sync.OnceFunc(x.starts.leave)
	master, err := (&execStart{execs: x, e: e, req: req, files: files, deadline: deadline}).run()
	if errors.Is(err, errDeadline) {
		return &pb.ExecEnded{Code: 128 + int32(unix.SIGKILL), Signal: int32(unix.SIGKILL), TimedOut: true}, nil
	}
	if err != nil {
		return nil, err
	}
	if n.version >= versionTerminals {
		err = n.tellStarted(id, e.process, master)
	}
	stdio.Close(master)
	if err != nil { // The daemon has gone.
		_, killErr := e.process.kill()
		return nil, errors.Join(err, killErr)
	}
	e.leave()
	return e.process.await(e.ctx, deadline)
}

// tellStarted sends what the daemon needs to continue without this monitor.
func (n *session) tellStarted(id uint64, p *execProcess, master int) error {
	var roles []pb.Role
	var fds []int
	for role, fd := range map[pb.Role]int{pb.Role_ROLE_PIDFD: p.pidfd, pb.Role_ROLE_TERMINAL: master} {
		if fd >= 0 {
			roles, fds = append(roles, role), append(fds, fd)
		}
	}
	return n.conn.Send(&pb.Reply{Id: id, More: true, Descriptors: roles, Result: &pb.Reply_ExecStarted{
		ExecStarted: &pb.ExecStarted{Process: fromIdentity(p.identity)},
	}}, fds...)
}

func (x *execs) check(req *pb.Exec) error {
	switch {
	case !filepath.IsAbs(req.Runtime) || !filepath.IsAbs(req.PidFile):
		return fail(pb.Failure_CODE_INVALID, "exec %s: the path of the runtime (%q) or of the pid file (%q) is not absolute", req.ExecId, req.Runtime, req.PidFile)
	case req.Timeout < 0:
		return fail(pb.Failure_CODE_INVALID, "exec %s: the timeout is negative", req.ExecId)
	}
	_, err := x.containers.find(req.ContainerId)
	return err
}

// execStart is the start of an exec.
type execStart struct {
	*execs
	e        *execution
	req      *pb.Exec
	files    *descriptors
	deadline <-chan time.Time
}

// run runs the runtime and follows the process that it leaves, which it sets in the
// execution. It returns the master of the process's terminal; -1 for none.
func (b *execStart) run() (master int, err error) {
	req, files := b.req, b.files
	if err := removePidFile(req.PidFile); err != nil {
		return -1, err
	}
	command := reaper.Command{
		Path:  req.Runtime,
		Args:  req.Args,
		Env:   req.Env,
		Files: [3]int{files.get(pb.Role_ROLE_STDIN), files.get(pb.Role_ROLE_STDOUT), files.get(pb.Role_ROLE_STDERR)},
	}
	var terminal *stdio.Console
	if req.Terminal {
		if terminal, err = b.home.newConsole(); err != nil {
			return -1, err
		}
		defer terminal.Close()
		command.Args = terminal.Args(req.Args)
	}
	b.runtimes.reaper.Begin()
	defer b.runtimes.reaper.End()
	if err := b.runRuntime(command); err != nil {
		return -1, err
	}
	if b.e.process, err = b.followLeft(req.ExecId, req.PidFile); err != nil {
		b.ended(req.ExecId)
		return -1, err
	}
	if err := b.journal.ExecStarted(b.e.process.record()); err != nil {
		b.logger.Error("journal the start of an exec", "exec", b.e.id, "error", err)
	}
	if terminal == nil {
		return -1, nil
	}
	if master, err = terminal.Receive(); err != nil {
		_, killErr := b.e.process.kill()
		return -1, errors.Join(err, killErr)
	}
	return master, nil
}

// runRuntime runs the runtime to its end.
func (b *execStart) runRuntime(command reaper.Command) error {
	req, files := b.req, b.files
	child, err := b.runtimes.start(command)
	// The process has its own; these would keep the daemon's pipes open.
	files.close()
	*files = descriptors{}
	if err != nil {
		return err
	}
	if identity, ok := child.Identity(); ok {
		if err := b.journal.ExecStarted(&pb.Started{Id: b.e.id, Process: fromIdentity(identity), PidFile: req.PidFile}); err != nil {
			b.logger.Error("journal an exec that is being started", "exec", req.ExecId, "error", err)
		}
	}
	status, err := await(child, b.deadline, b.e.ctx.Done())
	if err == nil && status.Code == 0 {
		return nil
	}
	b.ended(req.ExecId)
	switch {
	case err == nil:
		return &failure{
			code:    pb.Failure_CODE_RUNTIME,
			message: fmt.Sprintf("exec %s: %s ended with code %d", req.ExecId, req.Runtime, status.Code),
			runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code)},
		}
	case errors.Is(err, errDeadline):
		killLeft(req.PidFile)
		return err
	default:
		killLeft(req.PidFile)
		return fail(pb.Failure_CODE_CANCELED, "exec %s: %v", req.ExecId, err)
	}
}

func (x *execs) ended(id string) {
	if err := x.journal.ExecEnded(id); err != nil {
		x.logger.Error("journal the end of an exec", "exec", id, "error", err)
	}
}
