package proc

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// freezeRounds bounds how often KillTree looks for processes that were started while it
	// was looking. Each round stops what it finds, so that only processes found in the last
	// round can have started more.
	freezeRounds = 50
	// standRounds bounds how often it looks whether what it has stopped stands. What waits
	// for a child to execute (vfork(2)), or is frozen, does not.
	standRounds = 50
)

// KillTree kills a process, its descendants, and the processes of its session and
// process group and of those that its descendants lead. It stops all of them before it
// kills the first, because the children of a process that is gone can't be told from
// other orphans. It does nothing if the process itself was reaped.
//
// A process escapes that has left the session and whose ancestors, up to this process,
// have all ended.
func KillTree(root Identity) {
	t := tree{root: root, members: map[int]*member{}}
	defer t.close()
	for rounds, waits := 0, 0; rounds < freezeRounds && waits < standRounds; {
		// Asked before the look: what stands can't have started another meanwhile.
		atRest := t.stands()
		if t.grow() {
			rounds++
			continue
		}
		if atRest {
			break
		}
		waits++
		time.Sleep(time.Millisecond)
	}
	for _, m := range t.members {
		// One that ended meanwhile is dead too.
		_ = unix.PidfdSendSignal(m.pidfd, unix.SIGKILL, nil, 0)
	}
}

// tree are the processes found to belong to root.
type tree struct {
	root Identity
	// members are the processes, by pid.
	members map[int]*member
}

type member struct {
	pidfd int
	// stands: it was seen stopped. Until then it may start others, whatever signal waits
	// for it.
	stands bool
}

// stands reports whether all members are stopped or have ended.
func (t *tree) stands() bool {
	all := true
	for pid, m := range t.members {
		m.stands = m.stands || stands(pid)
		all = all && m.stands
	}
	return all
}

// stands reports whether all threads of a process are stopped or have ended.
func stands(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return true // it is gone
	}
	for _, thread := range threads {
		s, err := readStatOf(dir + "/" + thread.Name())
		if err == nil && !s.ended() && s.state != 'T' && s.state != 't' {
			return false
		}
	}
	return true
}

// grow finds new members and stops them. It reports whether there were any.
func (t *tree) grow() bool {
	all, err := list()
	if err != nil {
		return false
	}
	if all[t.root.PID].started != t.root.StartTime || t.root.StartTime == 0 {
		delete(all, t.root.PID)
		if len(t.members) == 0 {
			return false
		}
	}
	grown := false
	for pid := range t.closure(all) {
		// One that seems to be a zombie may have other threads than its first.
		if t.members[pid] == nil && t.add(pid, all[pid].started) {
			grown = true
		}
	}
	return grown
}

// closure returns the pids that belong to the tree.
func (t *tree) closure(all map[int]stat) map[int]bool {
	in := map[int]bool{}
	if _, ok := all[t.root.PID]; ok {
		in[t.root.PID] = true
	}
	for pid := range t.members {
		if _, ok := all[pid]; ok {
			in[pid] = true
		}
	}
	for size := -1; size != len(in); {
		size = len(in)
		for pid, s := range all {
			if in[s.parent] || in[s.group] || in[s.session] {
				in[pid] = true
			}
		}
	}
	return in
}

// add stops a process that belongs to the tree.
func (t *tree) add(pid int, started uint64) bool {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	// Checked again, since the pid may have been reused before the pidfd was opened.
	if StartTime(pid) != started || unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0) != nil {
		_ = unix.Close(pidfd)
		return false
	}
	t.members[pid] = &member{pidfd: pidfd}
	return true
}

func (t *tree) close() {
	for _, m := range t.members {
		_ = unix.Close(m.pidfd)
	}
}
