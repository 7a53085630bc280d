package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
)

// A daemon that is killed while it forks leaves a process behind that has all its files open.
func TestForkOfKilledDaemonIsEnded(t *testing.T) {
	if path := os.Getenv("FORKING_DAEMON"); path != "" {
		forkingDaemon(path)
	}
	if os.Getuid() != 0 {
		t.Skip("takes root")
	}
	path := filepath.Join(t.TempDir(), "events.db")
	daemon := exec.Command(os.Args[0], "-test.run=^TestForkOfKilledDaemonIsEnded$")
	daemon.Env = append(os.Environ(), "FORKING_DAEMON="+path)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	fork, atoiErr := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, atoiErr); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	pidfd, err := unix.PidfdOpen(fork, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // if it is still there
		_ = unix.Close(pidfd)
	})
	alive := func() bool { return unix.PidfdSendSignal(pidfd, 0, nil, 0) == nil }

	reader := exec.Command("tail", "-f", "/dev/null", path)
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = reader.Process.Signal(unix.SIGTERM) // if it is still there
		if err := reader.Wait(); err == nil || !strings.Contains(err.Error(), unix.SIGTERM.String()) {
			t.Errorf("a program that only reads the file was ended: %v", err)
		}
	}()
	options := boltlog.Options{Path: path, LockWait: time.Millisecond, Logger: quiet}
	if _, err := OpenLog(options); !errors.Is(err, eventlog.ErrLocked) {
		t.Errorf("while the daemon runs: %v", err)
	}
	if !alive() {
		t.Error("a fork of a running daemon was ended")
	}
	_ = daemon.Process.Kill()
	_ = daemon.Wait() // killed

	options.LockWait = time.Minute
	log, err := OpenLog(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(ended, 0); n != 1 || err != nil {
		t.Errorf("the fork runs on: %v", err)
	}
}

// forkingDaemon opens a log, forks as the storage library does, and tells the fork's pid.
func forkingDaemon(path string) {
	if _, err := boltlog.Open(boltlog.Options{Path: path}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(fork())
	time.Sleep(time.Hour)
}

// fork returns the pid of a fork that waits for nothing.
//
//go:norace
func fork() int {
	pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	for pid == 0 {
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	return int(pid)
}
