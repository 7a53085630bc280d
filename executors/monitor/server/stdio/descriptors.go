package stdio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Duplicate returns another descriptor of the same file.
func Duplicate(fd int) (int, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	return twin, nil
}

// Close closes the descriptors that are not -1.
func Close(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Inode returns the inode of a descriptor's file; 0 for -1.
func Inode(fd int) uint64 {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}
