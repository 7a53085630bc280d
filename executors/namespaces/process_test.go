package namespaces

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is pinned stays the process's own namespace after its end, whoever has its pid.
func TestPinPID(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	var want, got unix.Stat_t
	path := filepath.Join(t.TempDir(), "pid")
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &want); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := PinPID(path, pid, pidfd); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := unix.Stat(path, &got); err != nil || got.Ino != want.Ino || got.Dev != want.Dev {
		t.Errorf("the file is %d:%d, want %d:%d; %v", got.Dev, got.Ino, want.Dev, want.Ino, err)
	}
	// The pid, if somebody has it, is another's now.
	if err := PinPID(path+"2", os.Getpid(), pidfd); err == nil {
		t.Error("the namespace of another process was pinned")
	}
	for range 2 {
		if err := UnpinPID(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is left")
	}
}
