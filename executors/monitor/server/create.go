package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/cgroup"
	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// creator creates containers.
type creator struct {
	home       *home
	journal    *journal.Journal
	runtimes   *runtimes
	follower   *follower
	outputs    *outputs
	exits      *exits
	containers *containers
	notifiers  *notifiers
	// starts is entered while a container is being created.
	starts *gate
	thrift thrift
	logger *slog.Logger
}

// create creates a container, or returns the existing one.
func (m *creator) create(ctx context.Context, req *pb.Create) (*container, error) {
	if err := checkCreate(req); err != nil {
		return nil, err
	}
	if err := m.starts.enter(ctx); err != nil {
		return nil, err
	}
	defer m.starts.leave()
	c, fresh := m.containers.reserve(req.ContainerId)
	if fresh {
		c.err = (&creation{creator: m, c: c, req: req}).run()
		if c.err != nil {
			c.notifier.close()
			m.containers.drop(c)
			if err := m.journal.Abandon(c.id); err != nil {
				m.logger.Error("journal a creation that failed", "container", c.id, "error", err)
			}
		}
		c.ready.happen()
		m.thrift.created()
	}
	<-c.ready.done()
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
	case req.Notifier != nil && !filepath.IsAbs(req.Notifier.Path):
		return fail(pb.Failure_CODE_INVALID, "create %s: the path for seccomp filters, %q, is not absolute", req.ContainerId, req.Notifier.Path)
	case req.Deadline < 0 || req.MaxLogSize < 0:
		return fail(pb.Failure_CODE_INVALID, "create %s: the deadline or the log size is negative", req.ContainerId)
	}
	return nil
}

// creation is one container's.
type creation struct {
	*creator
	c   *container
	req *pb.Create
	io  *stdio.Ends
}

func (n *creation) run() error {
	c, req := n.c, n.req
	if err := n.journal.Intend(c.id); err != nil {
		return err
	}
	log, err := openLog(req.LogPath, req.MaxLogSize)
	if err != nil {
		return err
	}
	n.io, err = stdio.New(req.Stdin && !req.Terminal)
	if err != nil {
		closeLog(log)
		return err
	}
	defer n.io.CloseChild()
	if err := removePidFile(req.PidFile); err != nil {
		closeLog(log)
		n.io.CloseOwn()
		return err
	}
	if req.Notifier != nil {
		if c.notifier, err = n.notifiers.open(c.id, req.Notifier, earlier{listener: -1}); err != nil {
			closeLog(log)
			n.io.CloseOwn()
			return err
		}
	}
	n.runtimes.reaper.Begin()
	defer n.runtimes.reaper.End()
	record, pidfd, err := n.runCreate()
	if err != nil {
		closeLog(log)
		n.io.CloseOwn()
		return err
	}
	output, err := n.outputs.attach(belongings{stdout: n.io.Stdout, stderr: n.io.Stderr, terminal: n.io.Terminal}, log)
	if err == nil {
		err = n.journal.Created(record)
	}
	if err != nil {
		proc.KillTree(toIdentity(record.Process))
		stdio.Close(pidfd, n.io.Stdin, n.io.Terminal)
		return err
	}
	c.mu.Lock()
	c.output, c.pidfd, c.stdin, c.terminal = output, pidfd, n.io.Stdin, n.io.Terminal
	c.mu.Unlock()
	c.record = record
	n.outputs.watchLosses(c)
	return nil
}

// runCreate runs the runtime and follows the process that it leaves.
func (n *creation) runCreate() (*pb.Container, int, error) {
	req := n.req
	command := reaper.Command{Path: req.Runtime, Args: req.Args, Env: req.Env, Dir: req.Bundle, Files: n.io.Child}
	var terminal *stdio.Console
	if req.Terminal {
		var err error
		if terminal, err = n.home.newConsole(); err != nil {
			return nil, -1, err
		}
		defer terminal.Close()
		command.Args = terminal.Args(req.Args)
	}
	if err := n.runRuntime(command); err != nil {
		return nil, -1, err
	}
	record, pidfd, err := n.follow()
	if err != nil || terminal == nil {
		return record, pidfd, err
	}
	master, err := terminal.Receive()
	if err != nil {
		proc.KillTree(toIdentity(record.Process))
		stdio.Close(pidfd)
		return nil, -1, fmt.Errorf("create %s: %w", n.c.id, err)
	}
	n.io.ReplaceByTerminal(master)
	record.StdoutInode, record.StderrInode = 0, 0
	return record, pidfd, nil
}

// runRuntime runs the runtime to its end.
func (n *creation) runRuntime(command reaper.Command) error {
	c, req := n.c, n.req
	child, err := n.runtimes.start(command)
	if err != nil {
		return err
	}
	if identity, ok := child.Identity(); ok {
		if err := n.journal.Creating(&pb.Started{Id: c.id, Process: fromIdentity(identity), PidFile: req.PidFile}); err != nil {
			n.logger.Error("journal a container that is being created", "container", c.id, "error", err)
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
		runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code), Stderr: complaint(n.io)},
	}
	if err != nil {
		killLeft(req.PidFile)
		failed.message = fmt.Sprintf("create %s: %s was killed: %v after %v", c.id, req.Runtime, err, deadline)
		failed.runtime.TimedOut = true
	}
	return failed
}

// follow follows the first process of the new container, which waits to be started.
func (n *creation) follow() (*pb.Container, int, error) {
	c, req := n.c, n.req
	pid, err := readPidFile(req.PidFile)
	if err != nil {
		return nil, -1, err
	}
	oom := cgroup.MarkOOM(pid)
	tell := n.exits.teller(c, oom)
	pidfd, err := n.runtimes.reaper.Follow(pid, tell)
	if errors.Is(err, reaper.ErrForeign) {
		err = n.follower.follow(pidfd, tell)
	}
	if err != nil {
		stdio.Close(pidfd)
		n.exits.ooms.Forget(c.id, oom.File)
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
		StdoutInode: stdio.Inode(n.io.Stdout),
		StderrInode: stdio.Inode(n.io.Stderr),
		OomFile:     oom.File,
		OomKills:    oom.Kills,
		Notifier:    req.Notifier,
	}, pidfd, nil
}

// complaint returns the end of a failed runtime's standard error, or else of its
// standard output. It does not wait: the runtime's processes are gone or stuck.
func complaint(io *stdio.Ends) []byte {
	for _, fd := range []int{io.Stderr, io.Stdout} {
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
