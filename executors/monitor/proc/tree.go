package proc

import "golang.org/x/sys/unix"

// freezeRounds bounds how often KillTree looks for processes that were started while it
// was looking. Each round stops what it finds, so that only processes found in the last
// round can have started more.
const freezeRounds = 50

// KillTree kills a process, its descendants, and the processes of its session and
// process group and of those that its descendants lead. It stops all of them before it
// kills the first, because the children of a process that is gone can't be told from
// other orphans. It does nothing if the process itself was reaped.
//
// A process escapes that has left the session and whose ancestors, up to this process,
// have all ended.
func KillTree(root Identity) {
	t := tree{root: root, members: map[int]int{}}
	defer t.close()
	for range freezeRounds {
		if !t.grow() {
			break
		}
	}
	for _, pidfd := range t.members {
		// One that ended meanwhile is dead too.
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}

// tree are the processes found to belong to root.
type tree struct {
	root Identity
	// members has a pidfd for each pid.
	members map[int]int
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
		if _, known := t.members[pid]; !known && !all[pid].ended() && t.add(pid, all[pid].started) {
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
	t.members[pid] = pidfd
	return true
}

func (t *tree) close() {
	for _, pidfd := range t.members {
		_ = unix.Close(pidfd)
	}
}
