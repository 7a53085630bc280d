package namespaces

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// PinPID pins the PID namespace of the process that pidfd refers to, and whose pid is
// known, on a file, in place of what was pinned there. Unlike a path in /proc, the file
// cannot come to mean another process. It fails for a process that has ended.
func PinPID(path string, pid, pidfd int) error {
	if err := UnpinPID(path); err != nil {
		return err
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return fmt.Errorf("pin the PID namespace of process %d: %w", pid, err)
	}
	defer func() { _ = namespace.Close() }() // read-only
	// While the process lives, its pid is no other's: what was opened is its own.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
		return fmt.Errorf("pin the PID namespace of process %d: it has ended", pid)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return fmt.Errorf("pin the PID namespace of process %d: %w", pid, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("pin the PID namespace of process %d: %w", pid, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", namespace.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin the PID namespace of process %d on %s: bind mount: %w", pid, path, err)
	}
	return nil
}

// UnpinPID undoes PinPID. A file that is gone is success.
func UnpinPID(path string) error { return unpin(path) }
