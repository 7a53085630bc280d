package reaper

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pidfsMagic is the type of the file system that pidfds are on since Linux 6.9;
// only there does a process have an inode of its own.
const pidfsMagic = 0x50494446

// stat is what is used of /proc/PID/stat.
type stat struct {
	state   byte
	parent  int
	session int
	// started is in clock ticks after boot.
	started uint64
}

// readStat reads /proc/PID/stat.
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in brackets, and may contain anything.
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	const first = 3 // the number, as proc_pid_stat(5) counts, of fields[0]
	if end < 0 || len(fields) <= 22-first {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	var s stat
	s.state = fields[3-first][0]
	s.parent, _ = strconv.Atoi(string(fields[4-first]))
	s.session, _ = strconv.Atoi(string(fields[6-first]))
	s.started, _ = strconv.ParseUint(string(fields[22-first]), 10, 64)
	return s, nil
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
// while the machine is up; 0 where the kernel doesn't number them.
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

// KillSession kills every process of the session of leader, which has not been
// waited for. It looks again until it finds none, for those that were being
// forked meanwhile, but not for ever: a process that leaves the session escapes.
func KillSession(leader int) {
	const rounds = 20
	for range rounds {
		if killRound(leader) == 0 {
			return
		}
	}
}

// killRound kills the processes of a session that it finds alive, and returns
// their number.
func killRound(leader int) int {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0
	}
	killed := 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !inSession(pid, leader) {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Asked again, since the pid may have changed hands before the pidfd.
		if inSession(pid, leader) && unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil {
			killed++
		}
		_ = unix.Close(pidfd)
	}
	return killed
}

func inSession(pid, leader int) bool {
	s, err := readStat(pid)
	return err == nil && s.session == leader && s.state != 'Z' && s.state != 'X'
}

// ExitInfo asks a pidfd how its process ended, which Linux 6.15 and later know
// for as long as a pidfd is open, after somebody else has waited for it.
func ExitInfo(pidfd int) (Status, error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return Status{}, fmt.Errorf("ask the pidfd how its process ended: %w", err)
	}
	if info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return Status{}, fmt.Errorf("the kernel doesn't tell how the process of a pidfd ended")
	}
	status := Now()
	status.setWait(unix.WaitStatus(uint32(info.Exit_code)))
	return status, nil
}
