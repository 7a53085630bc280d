package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// execution is an exec that somebody waits for on a connection.
type execution struct {
	id string
	// ctx ends when the process is to be killed.
	ctx  context.Context
	kill context.CancelFunc
	// The rest belongs to the goroutine that answers.

	// process is nil until it is there.
	process *execProcess
	// leave lets upgrades go on. Until then the exec was not answered, so that a
	// daemon that is cut off may take it that nothing was done. It may be nil.
	leave func()
}

// startExec notes an exec, so that killExec finds it, until done is called, after
// the answer was sent.
func (s *Server) startExec(parent context.Context, id string) (e *execution, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.execs[id]; ok || id == "" {
		return nil, func() {}, fail(pb.Failure_CODE_INVALID, "the exec id %q is missing, or of an exec that runs", id)
	}
	e = &execution{id: id}
	e.ctx, e.kill = context.WithCancel(parent)
	s.execs[id] = e
	return e, func() {
		e.kill()
		s.mu.Lock()
		delete(s.execs, id)
		s.mu.Unlock()
		if e.leave != nil {
			e.leave()
		}
		if e.process != nil {
			e.process.finish()
		}
	}, nil
}

// killExec ends an exec, which then answers that it was canceled. One that isn't
// there has ended.
func (s *Server) killExec(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.execs[id]; ok {
		e.kill()
	}
}

// exec runs a process in a container and waits for it.
func (n *session) exec(e *execution, id uint64, req *pb.Exec, files *descriptors) (*pb.ExecEnded, error) {
	s := n.server
	if err := s.checkExec(req); err != nil {
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
	if err := s.starts.enter(e.ctx); err != nil {
		return nil, err
	}
	e.leave = sync.OnceFunc(s.starts.leave)
	master, err := s.beginExec(e, deadline, req, files)
	if errors.Is(err, errDeadline) {
		return &pb.ExecEnded{Code: 128 + int32(unix.SIGKILL), Signal: int32(unix.SIGKILL), TimedOut: true}, nil
	}
	if err != nil {
		return nil, err
	}
	if n.version >= versionTerminals {
		err = n.tellStarted(id, e.process, master)
	}
	closeAll(master)
	if err != nil {
		return nil, err
	}
	e.leave()
	return e.process.await(e.ctx, deadline)
}

// tellStarted hands over what the daemon needs to go on alone.
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

func (s *Server) checkExec(req *pb.Exec) error {
	switch {
	case !filepath.IsAbs(req.Runtime) || !filepath.IsAbs(req.PidFile):
		return fail(pb.Failure_CODE_INVALID, "exec %s: the path of the runtime (%q) or of the pid file (%q) is not absolute", req.ExecId, req.Runtime, req.PidFile)
	case req.Timeout < 0:
		return fail(pb.Failure_CODE_INVALID, "exec %s: the timeout is negative", req.ExecId)
	}
	_, err := s.find(req.ContainerId)
	return err
}

// beginExec runs the runtime and follows the process that it leaves behind, which
// it sets in e. It returns the master of the process's terminal, -1 for none.
func (s *Server) beginExec(e *execution, deadline <-chan time.Time, req *pb.Exec, files *descriptors) (master int, err error) {
	if err := removePidFile(req.PidFile); err != nil {
		return -1, err
	}
	command := reaper.Command{
		Path:  req.Runtime,
		Args:  req.Args,
		Env:   req.Env,
		Files: [3]int{files.get(pb.Role_ROLE_STDIN), files.get(pb.Role_ROLE_STDOUT), files.get(pb.Role_ROLE_STDERR)},
	}
	var terminal *console
	if req.Terminal {
		if terminal, err = s.newConsole(); err != nil {
			return -1, err
		}
		defer terminal.close()
		command.Args = terminal.args(req.Args)
	}
	s.reaper.Begin()
	defer s.reaper.End()
	if err := s.runExec(e, deadline, req, command, files); err != nil {
		return -1, err
	}
	if e.process, err = s.followLeft(req.ExecId, req.PidFile); err != nil {
		s.endExecRecord(req.ExecId)
		return -1, err
	}
	if err := s.journal.ExecStarted(e.process.record()); err != nil {
		s.logger.Error("note that an exec was started", "exec", e.id, "error", err)
	}
	if terminal == nil {
		return -1, nil
	}
	if master, err = terminal.receive(); err != nil {
		_, killErr := e.process.kill()
		return -1, errors.Join(err, killErr)
	}
	return master, nil
}

// runExec runs the runtime to its end.
func (s *Server) runExec(e *execution, deadline <-chan time.Time, req *pb.Exec, command reaper.Command, files *descriptors) error {
	child, err := s.reaper.Start(command)
	// The process has its own; keeping these would keep the daemon's pipes open.
	files.close()
	*files = descriptors{}
	if err != nil {
		return err
	}
	s.oomScore.restore(child.PID)
	if identity, ok := child.Identity(); ok {
		if err := s.journal.ExecStarted(&pb.Started{Id: e.id, Process: fromIdentity(identity), PidFile: req.PidFile}); err != nil {
			s.logger.Error("note that an exec is being started", "exec", req.ExecId, "error", err)
		}
	}
	status, err := await(child, deadline, e.ctx.Done())
	if err == nil && status.Code == 0 {
		return nil
	}
	s.endExecRecord(req.ExecId)
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

func (s *Server) endExecRecord(id string) {
	if err := s.journal.ExecEnded(id); err != nil {
		s.logger.Error("note that an exec has ended", "exec", id, "error", err)
	}
}
