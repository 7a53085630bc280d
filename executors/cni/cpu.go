package cni

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuUse is what a process, alone or with its group, has had of the CPU.
type cpuUse struct {
	pid  int
	used time.Duration
	// runnable: a thread uses the CPU or waits for it.
	runnable bool
}

// cpuUseOf returns what a process has used; nothing if it is gone.
func cpuUseOf(pid int) cpuUse { return cpuUse{pid: pid, used: cpuTime(pid)} }

// cpuUseOfGroup counts the processes of a group that is named after its first one.
// Only process ids are looked at for most processes: a node can have thousands.
func cpuUseOfGroup(pid int) cpuUse {
	use := cpuUse{pid: pid}
	if pid == 0 {
		return use
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return use
	}
	defer func() { _ = proc.Close() }() // read-only
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return use
	}
	for _, name := range names {
		member, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if group, err := unix.Getpgid(member); err != nil || group != pid {
			continue
		}
		use.used += cpuTime(member)
		use.runnable = use.runnable || runnable(member)
	}
	return use
}

// cpuTime returns the CPU time of a process, 0 if it is gone. /proc would tell it in
// steps of ten milliseconds only.
func cpuTime(pid int) time.Duration {
	// As clock_getcpuclockid(3) makes it; the 2 is for what the scheduler counts.
	clock := int32(^pid)<<3 | 2
	var used unix.Timespec
	if pid == 0 || unix.ClockGettime(clock, &used) != nil {
		return 0
	}
	return time.Duration(used.Nano())
}

// runnable reports whether a thread of a process uses the CPU or waits for it.
func runnable(pid int) bool {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return false // it is gone
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(filepath.Join(tasks, thread.Name(), "stat"))
		// The state follows the name, which is in parentheses and may have some in it.
		if err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" R ")) {
			return true
		}
	}
	return false
}
