package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
)

// A daemon that is killed leaves the log's lock within this time, or somebody else has it.
const dyingWithin = 250 * time.Millisecond

// forkEnd bounds the wait for a killed process, in milliseconds.
const forkEnd = 5000

// OpenLog opens the event log for the daemon. Where the log is in use, it ends what a killed
// daemon left behind in the middle of a fork, and tries again.
//
// The storage library mounts with the ids of a user namespace that a fork of the daemon keeps
// open for it. The fork asks the kernel to end with the daemon, but it may be too late for
// that, or stuck before it: a fork has none of the threads that Go needs. It would hold the
// daemon's files, and the log's lock, for ever.
func OpenLog(o boltlog.Options) (*boltlog.Log, error) {
	quick := o
	quick.LockWait = dyingWithin
	log, err := boltlog.Open(quick)
	if !errors.Is(err, eventlog.ErrLocked) {
		return log, err
	}
	ended, err := endForks(o.Path)
	for _, pid := range ended {
		o.Logger.Warn("ended a process that a killed daemon left in the middle of a fork", "pid", pid)
	}
	if err != nil {
		o.Logger.Warn("processes that may keep the event log locked could not be ended", "path", o.Path, "error", err)
	}
	return boltlog.Open(o)
}

// endForks ends the forks of a dead daemon that share its lock of a file, and returns their
// pids. While a whole program has that lock, which can be their parent, it leaves all alone.
func endForks(path string) (ended []int, err error) {
	holders, err := holdersOf(path)
	if err != nil {
		return nil, err
	}
	for _, h := range holders {
		if !h.isFork() {
			return nil, nil
		}
	}
	for _, h := range holders {
		if err := h.end(); err != nil {
			return ended, err
		}
		ended = append(ended, h.pid)
	}
	return ended, nil
}

// holder is a process that has a lock of a file, whose name is the one that the kernel knows.
type holder struct {
	pid  int
	file string
}

func holdersOf(path string) ([]holder, error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find the event log: %w", err)
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []holder
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if h := (holder{pid, file}); err == nil && pid != os.Getpid() && h.holds() {
			all = append(all, h)
		}
	}
	return all, nil
}

func (h holder) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(h.pid), name) }

// holds reports whether the process has the file open, with a lock. A fork shares the lock of
// its parent; for one that reads the file without asking, as a backup does, nobody waits.
func (h holder) holds() bool {
	want, err := os.Stat(h.file)
	if err != nil {
		return false
	}
	open, _ := os.ReadDir(h.proc("fd"))
	for _, fd := range open {
		link := h.proc(filepath.Join("fd", fd.Name()))
		// Only files of that name are looked at: others may be on a disk that hangs.
		if name, err := os.Readlink(link); err != nil || name != h.file {
			continue
		}
		got, err := os.Stat(link)
		if err != nil || !os.SameFile(got, want) {
			continue
		}
		if info, err := os.ReadFile(h.proc(filepath.Join("fdinfo", fd.Name()))); err == nil && bytes.Contains(info, []byte("FLOCK")) {
			return true
		}
	}
	return false
}

// isFork reports whether the process is one of a single thread. A Go program has several from
// its start on; its fork has the one that forked, until it becomes another program.
func (h holder) isFork() bool {
	threads, err := os.ReadDir(h.proc("task"))
	return err == nil && len(threads) <= 1
}

// end kills the process and waits for its end.
func (h holder) end() error {
	fd, err := unix.PidfdOpen(h.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", h.pid, err)
	}
	defer func() { _ = unix.Close(fd) }() // it only refers to the process
	if !h.holds() || !h.isFork() {
		return nil // the pid was used again
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", h.pid, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, forkEnd)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", h.pid, err)
		case n == 0:
			return fmt.Errorf("process %d does not end after SIGKILL", h.pid)
		default:
			return nil
		}
	}
}
