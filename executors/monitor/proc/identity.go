package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// pidfsMagic is the type of the file system of pidfds since Linux 6.9; only there do
// processes have their own inodes.
const pidfsMagic = 0x50494446

// Identity identifies a process until the next boot: pids are reused.
type Identity struct {
	PID int
	// StartTime is in clock ticks after boot, field 22 of /proc/PID/stat; 0 if the
	// process was gone before it could be read.
	StartTime uint64
	// Inode is the process's on pidfs; 0 on Linux before 6.9.
	Inode uint64
}

// Identify returns the identity of the process that pidfd refers to and whose
// pid is known; pidfd is -1 for one that is gone.
func Identify(pid, pidfd int) Identity {
	id := Identity{PID: pid, Inode: Inode(pidfd)}
	if pidfd >= 0 {
		id.StartTime = StartTime(pid)
	}
	return id
}

// Open returns a pidfd of the process, unless it was reaped.
func (i Identity) Open() (pidfd int, err error) {
	if i.PID <= 0 {
		return -1, fmt.Errorf("there is no process %d", i.PID)
	}
	if pidfd, err = unix.PidfdOpen(i.PID, 0); err != nil {
		return -1, fmt.Errorf("open a pidfd of process %d: %w", i.PID, err)
	}
	// While the pidfd is open, the pid can't be reused between the two reads.
	if StartTime(i.PID) != i.StartTime || Inode(pidfd) != i.Inode {
		_ = unix.Close(pidfd)
		return -1, fmt.Errorf("pid %d belongs to another process now", i.PID)
	}
	return pidfd, nil
}

// Parent returns the pid of a process's parent; 0 when it is gone.
func Parent(pid int) int {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.parent
}

// StartTime returns when a process started, in clock ticks after boot: with the
// pid this identifies it. It returns 0 when the process is gone.
func StartTime(pid int) uint64 {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.started
}

// Inode returns the inode of a pidfd's process, which no other process gets
// while the machine is up; 0 where the kernel doesn't number them, and for -1.
func Inode(pidfd int) uint64 {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(pidfd, &fs); err != nil || fs.Type != pidfsMagic {
		return 0
	}
	var st unix.Stat_t
	if err := unix.Fstat(pidfd, &st); err != nil {
		return 0
	}
	return st.Ino
}

// WaitStatus returns how a pidfd's process ended. Linux 6.15 and later know it once the
// process was reaped, for as long as a pidfd is open.
func WaitStatus(pidfd int) (unix.WaitStatus, error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return 0, fmt.Errorf("ask the pidfd how its process ended: %w", err)
	}
	if info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, fmt.Errorf("the kernel does not show how a pidfd's process ended")
	}
	return unix.WaitStatus(uint32(info.Exit_code)), nil
}
