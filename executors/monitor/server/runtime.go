package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// defaultDeadline is how long a runtime may take if nobody says otherwise.
	defaultDeadline = 2 * time.Minute
	// killWait is how long a killed process may take to end. One that hangs in the
	// kernel takes longer, and is left alone.
	killWait = 10 * time.Second
	// stderrTail is how much of a failed runtime's output is passed on, in bytes.
	stderrTail = 4 << 10
)

var (
	errDeadline = errors.New("the deadline passed")
	errCanceled = errors.New("the caller has gone")
)

// runtimes runs OCI runtimes as children of the monitor.
type runtimes struct {
	reaper   *reaper.Reaper
	oomScore oomScore
}

// start starts a runtime.
func (r *runtimes) start(command reaper.Command) (*reaper.Child, error) {
	child, err := r.reaper.Start(command)
	if err != nil {
		return nil, err
	}
	r.oomScore.restore(child.PID)
	return child, nil
}

// await waits for a child until the deadline or cancel, and then kills it and its
// descendants.
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
	child.Kill()
	select {
	case status := <-child.Done:
		return status, why
	case <-time.After(killWait):
		return reaper.Status{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL)}, why
	}
}

// readPidFile reads the pid that a runtime wrote.
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

// killLeft kills the process that a killed runtime may have left: it is the monitor's
// child by now.
func killLeft(pidFile string) {
	pid, err := readPidFile(pidFile)
	if err != nil {
		return
	}
	identity := proc.Identity{PID: pid, StartTime: proc.StartTime(pid)}
	if proc.Parent(pid) == os.Getpid() {
		proc.KillTree(identity)
	}
}

// removePidFile removes an earlier attempt's file, which must not be taken for this
// one's.
func removePidFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old pid file: %w", err)
	}
	return nil
}

// killStarting kills a runtime that an earlier monitor started, and the process that
// it may have left.
func killStarting(record *pb.Started) {
	runtime := toIdentity(record.Process)
	proc.KillTree(runtime)
	pid, err := readPidFile(record.PidFile)
	if err != nil || pid == os.Getpid() {
		return
	}
	// A process older than the runtime is not the runtime's.
	if started := proc.StartTime(pid); started >= runtime.StartTime {
		proc.KillTree(proc.Identity{PID: pid, StartTime: started})
	}
}
