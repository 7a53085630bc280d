package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// exec runs a process in a container and waits for it, until ctx ends.
func (s *Server) exec(ctx context.Context, req *pb.Exec, files *descriptors) (*pb.ExecEnded, error) {
	if err := s.checkExec(req); err != nil {
		return nil, err
	}
	var deadline <-chan time.Time
	if req.Timeout > 0 {
		timer := time.NewTimer(time.Duration(req.Timeout))
		defer timer.Stop()
		deadline = timer.C
	}
	process, ended, err := s.runExec(ctx, deadline, req, files)
	if ended != nil || err != nil {
		return ended, err
	}
	return process.await(ctx, deadline)
}

func (s *Server) checkExec(req *pb.Exec) error {
	switch {
	case req.ExecId == "":
		return fail(pb.Failure_CODE_INVALID, "exec in %q: the exec id is missing", req.ContainerId)
	case !filepath.IsAbs(req.Runtime) || !filepath.IsAbs(req.PidFile):
		return fail(pb.Failure_CODE_INVALID, "exec %s: the path of the runtime (%q) or of the pid file (%q) is not absolute", req.ExecId, req.Runtime, req.PidFile)
	case req.Timeout < 0:
		return fail(pb.Failure_CODE_INVALID, "exec %s: the timeout is negative", req.ExecId)
	}
	_, err := s.find(req.ContainerId)
	return err
}

// startExec notes an exec, so that killExec finds it, until done is called. ctx
// ends when the exec is to be killed.
func (s *Server) startExec(parent context.Context, id string) (ctx context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.execs[id]; ok {
		return parent, func() {}, fail(pb.Failure_CODE_INVALID, "exec %s runs already", id)
	}
	ctx, cancel := context.WithCancel(parent)
	s.execs[id] = cancel
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.execs, id)
	}, nil
}

// killExec ends an exec, which then answers that it was canceled. One that isn't
// there has ended.
func (s *Server) killExec(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kill, ok := s.execs[id]; ok {
		kill()
	}
}

// runExec runs the runtime, and follows the process that it leaves behind.
// ended is set when it already came to an end.
func (s *Server) runExec(ctx context.Context, deadline <-chan time.Time, req *pb.Exec, files *descriptors) (process *execProcess, ended *pb.ExecEnded, err error) {
	if err := os.Remove(req.PidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove the old pid file: %w", err)
	}
	s.reaper.Begin()
	defer s.reaper.End()
	child, err := s.reaper.Start(reaper.Command{
		Path:  req.Runtime,
		Args:  req.Args,
		Env:   req.Env,
		Files: [3]int{files.get(pb.Role_ROLE_STDIN), files.get(pb.Role_ROLE_STDOUT), files.get(pb.Role_ROLE_STDERR)},
	})
	// The process has its own; keeping these would keep the daemon's pipes open.
	files.close()
	files.fds = nil
	files.roles = nil
	if err != nil {
		return nil, nil, err
	}
	s.oomScore.restore(child.PID)
	status, err := await(child, deadline, ctx.Done())
	if err != nil {
		// What it may have left in the container is a child of the monitor now.
		if pid, pidErr := readPidFile(req.PidFile); pidErr == nil && reaper.Parent(pid) == os.Getpid() {
			reaper.KillSession(pid)
		}
		if errors.Is(err, errDeadline) {
			return nil, &pb.ExecEnded{Code: 128 + int32(unix.SIGKILL), Signal: int32(unix.SIGKILL), TimedOut: true}, nil
		}
		return nil, nil, fail(pb.Failure_CODE_CANCELED, "exec %s: %v", req.ExecId, err)
	}
	if status.Code != 0 {
		return nil, nil, &failure{
			code:    pb.Failure_CODE_RUNTIME,
			message: fmt.Sprintf("exec %s: %s ended with code %d", req.ExecId, req.Runtime, status.Code),
			runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code)},
		}
	}
	process, err = s.followExec(req)
	return process, nil, err
}

// execProcess is the process of an exec.
type execProcess struct {
	server *Server
	id     string
	pid    int
	done   chan reaper.Status
}

// followExec follows the process that the runtime left, whatever its parent.
func (s *Server) followExec(req *pb.Exec) (*execProcess, error) {
	pid, err := readPidFile(req.PidFile)
	if err != nil {
		return nil, err
	}
	p := &execProcess{server: s, id: req.ExecId, pid: pid, done: make(chan reaper.Status, 1)}
	pidfd, err := s.reaper.Follow(pid, func(status reaper.Status) { p.done <- status })
	if errors.Is(err, reaper.ErrForeign) {
		if err = s.followForeign(pidfd, func(status reaper.Status) {
			_ = unix.Close(pidfd)
			p.done <- status
		}); err == nil {
			return p, nil
		}
	}
	// The reaper needs no pidfd of a child.
	closeAll(pidfd)
	if err != nil {
		return nil, fmt.Errorf("follow the process of exec %s: %w", req.ExecId, err)
	}
	return p, nil
}

// await waits for the process, and ends it and its session at the deadline and
// when ctx ends.
func (p *execProcess) await(ctx context.Context, deadline <-chan time.Time) (*pb.ExecEnded, error) {
	var timedOut bool
	select {
	case status := <-p.done:
		return p.result(status, false)
	case <-deadline:
		timedOut = true
	case <-ctx.Done():
	}
	reaper.KillSession(p.pid)
	select {
	case status := <-p.done:
		if timedOut {
			return p.result(status, true)
		}
		return nil, fail(pb.Failure_CODE_CANCELED, "exec %s: killed since %v", p.id, errCanceled)
	case <-time.After(killWait):
		return nil, fail(pb.Failure_CODE_INTERNAL, "exec %s: process %d is still there %v after it was killed", p.id, p.pid, killWait)
	}
}

func (p *execProcess) result(status reaper.Status, timedOut bool) (*pb.ExecEnded, error) {
	if status.Unknown != "" && !timedOut {
		return nil, fail(pb.Failure_CODE_INTERNAL, "exec %s: nobody could learn how it ended: %s", p.id, status.Unknown)
	}
	return &pb.ExecEnded{Code: int32(status.Code), Signal: int32(status.Signal), TimedOut: timedOut}, nil
}
