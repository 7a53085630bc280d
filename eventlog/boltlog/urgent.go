package boltlog

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// How the writer's thread is scheduled while it waits for the disk.
const (
	urgentNice  = -20
	urgentSlice = 100 * time.Microsecond // the shortest there is; Linux 6.12 and later
)

// urgency lets the writer continue as soon as the disk is done. All appends wait for it;
// on a busy node it would wait for the CPU several times a commit, behind the programs
// that it holds up. It is urgent only during the wait and within the kernel's fair class,
// so other threads do not starve.
//
// This needs CAP_SYS_NICE. Without it, or if the daemon has another scheduling policy, the
// writer is scheduled like other threads.
type urgency struct {
	refused bool
}

// raise makes the calling thread urgent until lower is called, by the same goroutine.
func (u *urgency) raise() (lower func()) {
	if u.refused {
		return func() {}
	}
	runtime.LockOSThread()
	given, err := unix.SchedGetAttr(0, 0)
	if err == nil && given.Policy == unix.SCHED_NORMAL {
		given.Size = unix.SizeofSchedAttr
		urgent := *given
		urgent.Nice, urgent.Runtime = urgentNice, uint64(urgentSlice)
		if err = unix.SchedSetAttr(0, &urgent, 0); err == nil {
			return func() {
				// If this fails, the thread stays locked to the writer: urgent, it must
				// not serve other goroutines.
				if unix.SchedSetAttr(0, given, 0) == nil {
					runtime.UnlockOSThread()
				}
			}
		}
	}
	u.refused = true
	runtime.UnlockOSThread()
	return func() {}
}
