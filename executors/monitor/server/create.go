package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// defaultDeadline is how long a runtime may take if nobody says otherwise.
	defaultDeadline = 2 * time.Minute
	// killWait is how long a killed process may take to be gone. One that hangs
	// in the kernel takes longer, and is then left alone.
	killWait = 10 * time.Second
	// stderrTail is how much of a runtime's complaint is passed on, in bytes.
	stderrTail = 4 << 10
)

// create makes a container, or returns the one that is there.
func (s *Server) create(req *pb.Create) (*container, error) {
	if err := checkCreate(req); err != nil {
		return nil, err
	}
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
	case req.Terminal:
		return fail(pb.Failure_CODE_UNIMPLEMENTED, "create %s: this monitor has no terminals for containers", req.ContainerId)
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
	pipes, err := newStdio(req.Stdin)
	if err != nil {
		closeLog(log)
		return err
	}
	defer pipes.closeChild()

	// What is left in the pid file by an earlier try must not be taken for an
	// answer.
	if err := os.Remove(req.PidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		closeLog(log)
		pipes.closeOwn()
		return fmt.Errorf("remove the old pid file: %w", err)
	}
	s.reaper.Begin()
	defer s.reaper.End()
	record, pidfd, err := s.runCreate(c, req, pipes)
	if err != nil {
		closeLog(log)
		pipes.closeOwn()
		return err
	}
	output, err := s.pump.Attach(pump.Pipes{Stdout: pipes.stdout, Stderr: pipes.stderr}, log)
	if err == nil {
		err = s.journal.Created(record)
	}
	if err != nil {
		if pidfd >= 0 {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
		closeAll(pidfd, pipes.stdin)
		return err
	}
	c.mu.Lock()
	c.output, c.pidfd, c.stdin = output, pidfd, pipes.stdin
	c.mu.Unlock()
	c.record = record
	return nil
}

// openLog opens a container's log; nil for an empty path.
func openLog(path string, max int64) (*crilog.File, error) {
	if path == "" {
		return nil, nil
	}
	return crilog.Open(path, max)
}

func closeLog(log *crilog.File) {
	if log != nil {
		log.Close()
	}
}

// runCreate runs the runtime and follows the process that it leaves behind.
func (s *Server) runCreate(c *container, req *pb.Create, pipes *stdio) (*pb.Container, int, error) {
	child, err := s.reaper.Start(reaper.Command{
		Path:  req.Runtime,
		Args:  req.Args,
		Env:   req.Env,
		Dir:   req.Bundle,
		Files: pipes.child,
	})
	if err != nil {
		return nil, -1, err
	}
	s.oomScore.restore(child.PID)
	deadline := time.Duration(req.Deadline)
	if deadline == 0 {
		deadline = defaultDeadline
	}
	status, err := await(child, time.After(deadline), nil)
	if err != nil {
		killByPidFile(req.PidFile)
		return nil, -1, &failure{
			code:    pb.Failure_CODE_RUNTIME,
			message: fmt.Sprintf("create %s: %s was killed: %v after %v", c.id, req.Runtime, err, deadline),
			runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code), TimedOut: true, Stderr: complaint(pipes)},
		}
	}
	if status.Code != 0 {
		return nil, -1, &failure{
			code:    pb.Failure_CODE_RUNTIME,
			message: fmt.Sprintf("create %s: %s ended with code %d", c.id, req.Runtime, status.Code),
			runtime: &pb.RuntimeFailure{ExitCode: int32(status.Code), Stderr: complaint(pipes)},
		}
	}
	pid, err := readPidFile(req.PidFile)
	if err != nil {
		return nil, -1, err
	}
	pidfd, err := s.reaper.Follow(pid, func(status reaper.Status) { go s.ended(c, status) })
	if errors.Is(err, reaper.ErrForeign) {
		err = s.followForeign(pidfd, func(status reaper.Status) { s.ended(c, status) })
	}
	if err != nil {
		closeAll(pidfd)
		return nil, -1, fmt.Errorf("follow the first process of container %s: %w", c.id, err)
	}
	oomFile := oomCounter(pid)
	return &pb.Container{
		Id:          c.id,
		Process:     &pb.Process{Pid: int32(pid), StartTime: reaper.StartTime(pid), Inode: reaper.Inode(pidfd)},
		LogPath:     req.LogPath,
		MaxLogSize:  req.MaxLogSize,
		Stdin:       req.Stdin,
		StdinOnce:   req.StdinOnce,
		StdoutInode: inode(pipes.stdout),
		StderrInode: inode(pipes.stderr),
		OomFile:     oomFile,
		OomKills:    oomKills(oomFile),
	}, pidfd, nil
}

var (
	errDeadline = errors.New("the deadline passed")
	errCanceled = errors.New("nobody waits for it any more")
)

// await waits for a child until the deadline or cancel, and then kills its
// process group.
func await(child *reaper.Child, deadline <-chan time.Time, cancel <-chan struct{}) (reaper.Status, error) {
	var why error
	select {
	case status := <-child.Done:
		return status, nil
	case <-deadline:
		why = errDeadline
	case <-cancel:
		why = errCanceled
	}
	child.KillGroup()
	select {
	case status := <-child.Done:
		return status, why
	case <-time.After(killWait):
		return reaper.Status{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL)}, why
	}
}

// complaint returns the end of what a runtime that failed wrote to standard
// error, or else to standard output. Its processes are gone or stuck, so this
// doesn't wait.
func complaint(pipes *stdio) []byte {
	for _, fd := range []int{pipes.stderr, pipes.stdout} {
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

// readPidFile reads the pid that a runtime left.
func readPidFile(path string) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read the pid that the runtime left: %w", err)
	}
	defer file.Close()
	text := make([]byte, 32)
	n, err := file.Read(text)
	if err != nil {
		return 0, fmt.Errorf("read the pid that the runtime left in %s: %w", path, err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text[:n])))
	if err != nil {
		return 0, fmt.Errorf("read the pid that the runtime left in %s: %w", path, err)
	}
	return pid, nil
}

// killByPidFile kills the process that a runtime, which was killed itself, may
// have left behind: a child of the monitor by now.
func killByPidFile(path string) {
	pid, err := readPidFile(path)
	if err != nil {
		return
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(pidfd) }()
	if reaper.Parent(pid) == os.Getpid() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}
