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

// urgency lets the writer go on as soon as the disk is done. Everything that is not
// volatile waits for it, and what comes meanwhile does, too; on a busy node it would wait
// for the CPU several times a commit, behind the very programs that it holds up. It is urgent for the wait alone, in the kernel's fair
// class: what it computes takes its turn, and nobody starves.
//
// It takes CAP_SYS_NICE. Without, or if somebody chose another scheduling policy for the
// daemon, the writer is like everybody else.
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
				// A thread that stayed urgent would serve others: then it stays the writer's.
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
