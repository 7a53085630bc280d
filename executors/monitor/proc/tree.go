package proc

import "golang.org/x/sys/unix"

// freezeRounds bounds how often KillTree looks for processes that were started
// while it was looking. Each round stops what it finds, so that only what a round
// found first can have started more.
const freezeRounds = 50

// KillTree kills a process and what it has started: its descendants, the
// processes of its session and process group, and of those that its descendants
// lead. It stops all of them before it kills the first, because the children of a
// process that is gone can't be told from those of others. It does nothing when
// the process itself is gone and was waited for.
//
// What escapes is a process that has left the session and whose ancestors, up to
// this process, have all ended.
func KillTree(root Identity) {
	t := tree{root: root, members: map[int]int{}}
	defer t.close()
	for range freezeRounds {
		if !t.grow() {
			break
		}
	}
	for _, pidfd := range t.members {
		// Who has ended meanwhile is as dead as is wanted.
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}

// tree are the processes that were found to belong to root.
type tree struct {
	root Identity
	// members has a pidfd for each pid.
	members map[int]int
}

// grow looks for members that are not known yet and stops them. It reports
// whether there were any.
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
	// Asked again, since the pid may have changed hands before the pidfd.
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
