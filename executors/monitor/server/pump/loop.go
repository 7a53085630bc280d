package pump

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readier handles a descriptor's events, in the goroutine of run.
type readier interface{ readable(events uint32) }

// loop is one goroutine with one epoll. It handles descriptors' events, and runs
// functions that others hand to it.
type loop struct {
	logger *slog.Logger
	epoll  int
	// wake is an eventfd that makes run look at queue.
	wake int

	mu      sync.Mutex
	queue   []func()
	stopped bool
	ended   chan struct{}

	// ready belongs to the goroutine of run.
	ready map[int32]readier
}

func newLoop(logger *slog.Logger) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	l := &loop{logger: logger, epoll: epoll, wake: wake, ended: make(chan struct{}), ready: map[int32]readier{}}
	if err := l.add(wake, unix.EPOLLIN, nil); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// close closes a loop that never ran.
func (l *loop) close() {
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wake)
}

// run handles events until stop. It waits for them for timeout milliseconds at most,
// and calls round after each batch.
func (l *loop) run(timeout func() int, round func(now time.Time)) error {
	defer close(l.ended)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(l.epoll, events, timeout())
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for output: %w", err)
		}
		woken := false
		for _, event := range events[:max(n, 0)] {
			if event.Fd == int32(l.wake) {
				woken = true
			} else if r := l.ready[event.Fd]; r != nil {
				r.readable(event.Events)
			}
		}
		round(time.Now())
		// Functions come last: one that closes a descriptor must not run while events of
		// this round may still name it.
		if woken && !l.runQueue() {
			return nil
		}
	}
}

// stop makes run return, after the functions handed to it before.
func (l *loop) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.notify()
	<-l.ended
}

// do hands f to the goroutine of run. It reports false when that has stopped.
func (l *loop) do(f func()) bool {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, f)
	l.mu.Unlock()
	l.notify()
	return true
}

// call is do, and waits until f has run.
func (l *loop) call(f func()) error {
	done := make(chan struct{})
	if !l.do(func() { f(); close(done) }) {
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-l.ended:
		return ErrStopped
	}
}

func (l *loop) notify() {
	one := [8]byte{1}
	// The only possible failure is that the counter is full: then run is awake.
	_, _ = unix.Write(l.wake, one[:])
}

func (l *loop) runQueue() bool {
	var counter [8]byte
	_, _ = unix.Read(l.wake, counter[:])
	l.mu.Lock()
	queue, stopped := l.queue, l.stopped
	l.queue = nil
	l.mu.Unlock()
	for _, f := range queue {
		f()
	}
	return !stopped
}

func (l *loop) add(fd int, events uint32, r readier) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("wait for events of descriptor %d: %w", fd, err)
	}
	l.ready[int32(fd)] = r
	return nil
}

// change sets the events to wait for.
func (l *loop) change(fd int, events uint32) {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &event); err != nil {
		l.logger.Error("change what is waited for", "fd", fd, "error", err)
	}
}

// remove stops waiting for fd. It must come before fd is closed: a duplicate elsewhere
// would keep the kernel's registration alive.
func (l *loop) remove(fd int) {
	delete(l.ready, int32(fd))
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		l.logger.Error("stop waiting for a descriptor", "fd", fd, "error", err)
	}
}
