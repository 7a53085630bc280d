package container

import (
	"slices"
	"strconv"
	"strings"
)

// BlockedSyscall is how often a container made a system call that its seccomp profile forbids.
type BlockedSyscall struct {
	// Name is the call's; empty for all those that the monitor no longer tells apart.
	Name  string
	Count uint64
}

// Blocked is what is known of forbidden system calls. The counts are those of the last event,
// which may lag behind: see decideBlocked.
type Blocked struct {
	Calls []BlockedSyscall `json:",omitempty"`
	// Stop: the container is being, or was, killed for them.
	Stop bool `json:",omitempty"`
}

// String lists the calls as CRI-O does: name (3x), other (1x).
func (x Blocked) String() string {
	var all []string
	for _, call := range x.Calls {
		name := call.Name
		if name == "" {
			name = "others"
		}
		all = append(all, name+" ("+strconv.FormatUint(call.Count, 10)+"x)")
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// total adds up all calls.
func (x Blocked) total() (n uint64) {
	for _, call := range x.Calls {
		n += call.Count
	}
	return n
}

// has reports whether calls of a name are known.
func (x Blocked) has(call BlockedSyscall) bool {
	return slices.ContainsFunc(x.Calls, func(known BlockedSyscall) bool { return known.Name == call.Name })
}

// decideBlocked records the first call of each name, and totals once they have doubled: a
// container that makes forbidden calls as fast as it can adds few events to the log. Exact counts
// are metrics.
func decideBlocked(s State, c ReportBlocked) []Event {
	if s.final() || s.Phase == Absent {
		return nil
	}
	stop := c.Stop && !s.Blocked.Stop && !s.Stopping.Killing && s.stoppable()
	fresh := slices.ContainsFunc(c.Calls, func(call BlockedSyscall) bool { return !s.Blocked.has(call) })
	now := Blocked{Calls: c.Calls}.total()
	if !stop && !fresh && (now < 2*s.Blocked.total() || now == 0) {
		return nil
	}
	if stop {
		return []Event{SyscallsBlocked{Calls: c.Calls, Stop: true}, KillRequested{By: BySeccomp}}
	}
	return []Event{SyscallsBlocked{Calls: c.Calls}}
}

// SeccompKilled reports whether the container's end is the one that it got for forbidden system
// calls, and neither another that came first nor an unknown one.
func (s State) SeccompKilled() bool {
	return s.Blocked.Stop && s.Run.ExitSeen && s.Run.Exit.Signal == sigkill
}

// sigkill is SIGKILL's number.
const sigkill = 9
