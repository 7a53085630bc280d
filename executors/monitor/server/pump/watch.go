package pump

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// watch is a descriptor that somebody wants to hear of once.
type watch struct {
	loop *loop
	fd   int
	tell func(hangUp bool)
}

func (w *watch) readable(events uint32) {
	w.loop.remove(w.fd)
	w.tell(events&unix.EPOLLHUP != 0)
}

// WatchEnd calls tell once, in the pump's goroutine, where it must not wait for
// anything, when the process of pidfd has ended; with hangUp when it was waited
// for as well. If only that is wanted, reaped is true (Linux 6.9 and later). The
// descriptor must stay open until then.
func (p *Pump) WatchEnd(pidfd int, reaped bool, tell func(hangUp bool)) error {
	var events uint32 = unix.EPOLLIN
	if reaped {
		events = 0 // the kernel always reports EPOLLHUP
	}
	var addErr error
	err := p.loop.call(func() { addErr = p.loop.add(pidfd, events, &watch{loop: p.loop, fd: pidfd, tell: tell}) })
	if err == nil {
		err = addErr
	}
	if err != nil {
		return fmt.Errorf("watch a process: %w", err)
	}
	return nil
}

// Unwatch takes back a WatchEnd that has not told anything yet.
func (p *Pump) Unwatch(pidfd int) {
	_ = p.loop.call(func() {
		if _, ok := p.loop.ready[int32(pidfd)].(*watch); ok {
			p.loop.remove(pidfd)
		}
	})
}
