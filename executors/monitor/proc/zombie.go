package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ZombieStatus tells how the process of a pidfd ended for which nobody has waited yet:
// field 52 of /proc/PID/stat has then what wait(2) will say. It fails for a process
// that lives or was waited for, and where the kernel does not tell.
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
	// Who may not look at a process is told the status 0, and may not read this file
	// either.
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/personality", pid)); err != nil {
		return 0, fmt.Errorf("the kernel does not tell how process %d ended: %w", pid, err)
	}
	// While nobody has waited for it, the pid is its own.
	if again, err := pidOf(pidfd); err != nil || again != pid {
		return 0, fmt.Errorf("somebody has waited for process %d meanwhile", pid)
	}
	return s.exit, nil
}

// pidOf returns the pid of a pidfd's process until somebody has waited for it.
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
