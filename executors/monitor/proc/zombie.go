package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ZombieStatus returns how a pidfd's process ended that was not reaped yet: field 52 of
// /proc/PID/stat has its wait(2) status. It fails for a process that lives or was
// reaped, and where the kernel does not show the status.
func ZombieStatus(pidfd int) (unix.WaitStatus, error) {
	pid, err := pidOf(pidfd)
	if err != nil {
		return 0, err
	}
	s, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	if s.state != 'Z' {
		return 0, fmt.Errorf("process %d is no zombie, its state is %c", pid, s.state)
	}
	// Without access to the process the status reads as 0, and this file can't be read
	// either.
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/personality", pid)); err != nil {
		return 0, fmt.Errorf("the kernel does not show how process %d ended: %w", pid, err)
	}
	// Until it is reaped, it keeps its pid.
	if again, err := pidOf(pidfd); err != nil || again != pid {
		return 0, fmt.Errorf("process %d was reaped meanwhile", pid)
	}
	return s.exit, nil
}

// pidOf returns the pid of a pidfd's process until it is reaped.
func pidOf(pidfd int) (int, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		text, ok := bytes.CutPrefix(line, []byte("Pid:"))
		if !ok {
			continue
		}
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil && pid > 0 {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("descriptor %d has no process (any more)", pidfd)
}
