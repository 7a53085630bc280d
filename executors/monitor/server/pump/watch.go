package pump

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// watch is a pidfd whose next event is reported, once.
type watch struct {
	loop *loop
	fd   int
	tell func(hangUp bool)
}

func (w *watch) readable(events uint32) {
	w.loop.remove(w.fd)
	w.tell(events&unix.EPOLLHUP != 0)
}

// WatchEnd calls tell once when the process of pidfd has ended; hangUp means that it
// was reaped too. With reaped it waits for the reaping (Linux 6.9 and later). tell runs
// in the pump's goroutine and must not block. The descriptor must stay open until then.
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

// Unwatch cancels a WatchEnd.
func (p *Pump) Unwatch(pidfd int) {
	_ = p.loop.call(func() {
		if _, ok := p.loop.ready[int32(pidfd)].(*watch); ok {
			p.loop.remove(pidfd)
		}
	})
}
