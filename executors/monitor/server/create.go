package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// create makes a container, or returns the one that is there.
func (s *Server) create(ctx context.Context, req *pb.Create) (*container, error) {
	if err := checkCreate(req); err != nil {
		return nil, err
	}
	if err := s.starts.enter(ctx); err != nil {
		return nil, err
	}
	defer s.starts.leave()
	c, fresh := s.reserve(req.ContainerId)
	if fresh {
		c.err = s.createFresh(c, req)
		if c.err != nil {
			s.drop(c)
			if err := s.journal.Abandon(c.id); err != nil {
				s.logger.Error("note that a container was not created", "container", c.id, "error", err)
			}
		}
		close(c.ready)
	}
	<-c.ready
	return c, c.err
}

func checkCreate(req *pb.Create) error {
	switch {
	case req.ContainerId == "":
		return fail(pb.Failure_CODE_INVALID, "create: the container id is missing")
	case !filepath.IsAbs(req.Runtime):
		return fail(pb.Failure_CODE_INVALID, "create %s: the runtime's path %q is not absolute", req.ContainerId, req.Runtime)
	case !filepath.IsAbs(req.PidFile):
		return fail(pb.Failure_CODE_INVALID, "create %s: the pid file's path %q is not absolute", req.ContainerId, req.PidFile)
	case req.Deadline < 0 || req.MaxLogSize < 0:
		return fail(pb.Failure_CODE_INVALID, "create %s: the deadline or the log size is negative", req.ContainerId)
	}
	return nil
}

func (s *Server) createFresh(c *container, req *pb.Create) error {
	if err := s.journal.Intend(c.id); err != nil {
		return err
	}
	log, err := openLog(req.LogPath, req.MaxLogSize)
	if err != nil {
		return err
	}
	io, err := newStdio(req.Stdin && !req.Terminal)
	if err != nil {
		closeLog(log)
		return err
	}
	defer io.closeChild()
	if err := removePidFile(req.PidFile); err != nil {
		closeLog(log)
		io.closeOwn()
		return err
	}
	s.reaper.Begin()
	defer s.reaper.End()
	record, pidfd, err := s.runCreate(c, req, io)
	if err != nil {
		closeLog(log)
		io.closeOwn()
		return err
	}
	output, err := s.attachPump(belongings{stdout: io.stdout, stderr: io.stderr, terminal: io.terminal}, log)
	if err == nil {
		err = s.journal.Created(record)
	}
	if err != nil {
		proc.KillTree(toIdentity(record.Process))
		closeAll(pidfd, io.stdin, io.terminal)
		return err
	}
	c.mu.Lock()
	c.output, c.pidfd, c.stdin, c.terminal = output, pidfd, io.stdin, io.terminal
	c.mu.Unlock()
	c.record = record
	s.watchLosses(c)
	return nil
}

// runCreate runs the runtime and follows the process that it leaves behind.
func (s *Server) runCreate(c *container, req *pb.Create, io *stdio) (*pb.Container, int, error) {
	command := reaper.Command{Path: req.Runtime, Args: req.Args, Env: req.Env, Dir: req.Bundle, Files: io.child}
	var terminal *console
	if req.Terminal {
		var err error
		if terminal, err = s.newConsole(); err != nil {
			return nil, -1, err
		}
		defer terminal.close()
		command.Args = terminal.args(req.Args)
	}
	if err := s.runRuntime(c, req, command, io); err != nil {
		return nil, -1, err
	}
	record, pidfd, err := s.followCreated(c, req, io)
	if err != nil || terminal == nil {
		return record, pidfd, err
	}
	master, err := terminal.receive()
	if err != nil {
		proc.KillTree(toIdentity(record.Process))
		closeAll(pidfd)
		return nil, -1, fmt.Errorf("create %s: %w", c.id, err)
	}
	io.replaceByTerminal(master)
	record.StdoutInode, record.StderrInode = 0, 0
	return record, pidfd, nil
}

// runRuntime runs the runtime to its end.
func (s *Server) runRuntime(c *container, req *pb.Create, command reaper.Command, io *stdio) error {
	child, err := s.reaper.Start(command)
	if err != nil {
		return err
	}
	s.oomScore.restore(child.PID)
	if identity, ok := child.Identity(); ok {
		if err := s.journal.Creating(&pb.Started{Id: c.id, Process: fromIdentity(identity), PidFile: req.PidFile}); err != nil {
			s.logger.Error("note that a container is being created", "container", c.id, "error", err)
		}
	}
	deadline := time.Duration(req.Deadline)
	if deadline == 0 {
		deadline = defaultDeadline
	}
	status, err := await(child, time.After(deadline), nil)
	if err == nil && status.Code == 0 {
		return nil
	}
	failed := &failure{
		code:    pb.Failure_CODE_RUNTIME,
		message: fmt.Sprintf("create %s: %s ended with code %d", c.id, req.Runtime, status.Code),
		runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code), Stderr: complaint(io)},
	}
	if err != nil {
		killLeft(req.PidFile)
		failed.message = fmt.Sprintf("create %s: %s was killed: %v after %v", c.id, req.Runtime, err, deadline)
		failed.runtime.TimedOut = true
	}
	return failed
}

// followCreated follows the first process of a container that the runtime has
// made. That waits to be started.
func (s *Server) followCreated(c *container, req *pb.Create, io *stdio) (*pb.Container, int, error) {
	pid, err := readPidFile(req.PidFile)
	if err != nil {
		return nil, -1, err
	}
	oom := newOOMMark(oomCounter(pid))
	tell := s.teller(c, oom)
	pidfd, err := s.reaper.Follow(pid, tell)
	if errors.Is(err, reaper.ErrForeign) {
		err = s.followForeign(pidfd, tell)
	}
	if err != nil {
		closeAll(pidfd)
		return nil, -1, fmt.Errorf("follow the first process of container %s: %w", c.id, err)
	}
	return &pb.Container{
		Id:          c.id,
		Process:     fromIdentity(proc.Identify(pid, pidfd)),
		LogPath:     req.LogPath,
		MaxLogSize:  req.MaxLogSize,
		Stdin:       req.Stdin,
		StdinOnce:   req.StdinOnce,
		Terminal:    req.Terminal,
		StdoutInode: inode(io.stdout),
		StderrInode: inode(io.stderr),
		OomFile:     oom.file,
		OomKills:    oom.kills,
	}, pidfd, nil
}

// complaint returns the end of what a runtime that failed wrote to standard
// error, or else to standard output. Its processes are gone or stuck, so this
// doesn't wait.
func complaint(io *stdio) []byte {
	for _, fd := range []int{io.stderr, io.stdout} {
		text := make([]byte, 64<<10)
		n, err := unix.Read(fd, text)
		if err != nil {
			continue
		}
		if text = bytes.TrimSpace(text[:n]); len(text) > 0 {
			return text[max(0, len(text)-stderrTail):]
		}
	}
	return nil
}
