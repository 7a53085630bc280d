package pump

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

const (
	// turnReads is how many reads a stream gets before others have a turn.
	turnReads = 8
	// drainReads is how many it gets when its container has ended: more than
	// the largest pipe holds, but not for ever, since others may still write.
	drainReads = 64
	// holdTime is how long the beginning of a line is kept back in the hope
	// that the rest follows and that one record will do.
	holdTime = 250 * time.Millisecond
)

// ErrStopped says that the pump was stopped.
var ErrStopped = errors.New("the log pump has stopped")

// Pump reads any number of streams. Its fields below mu belong to the goroutine
// of Run.
type Pump struct {
	logger *slog.Logger
	epoll  int
	// wake is an eventfd that makes Run look at queue.
	wake int

	mu      sync.Mutex
	queue   []func()
	stopped bool
	ended   chan struct{}

	ready   map[int32]readier
	peek    *peek
	redo    *redo.File
	scratch *crilog.Scratch
	// left are the flights of a process before this one.
	left []*redo.Flight
	// held are the streams with an unfinished line, by the time when it is
	// their turn to be looked at.
	held []*stream
	// untold are the outputs that have lost something since the last word.
	untold []*Output
	// complained says that the redo file was said to be full.
	complained bool
}

// readier is told about events of a descriptor, in the goroutine of Run.
type readier interface{ readable(events uint32) }

// New returns a pump, for Run, that loses and doubles nothing when its process is
// killed, at whatever instant, provided that the next one
//
//  1. opens the same redo file, and gives it to its pump;
//  2. attaches or offers, for each container, the same pipes or terminal, with a
//     log of the same path: what the redo file holds of a stream is written before
//     anything is read from it;
//  3. calls Finish for each container whose pipes are gone;
//  4. calls Settle when nobody can bring any more of them.
//
// Without a log (nil) what the file holds of a stream is dropped, as its output is.
// The file is the pump's until Run has returned; then it can be closed.
func New(logger *slog.Logger, file *redo.File) (*Pump, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	p := &Pump{
		logger:  logger,
		epoll:   epoll,
		wake:    wake,
		ended:   make(chan struct{}),
		ready:   map[int32]readier{},
		redo:    file,
		scratch: crilog.NewScratch(),
		left:    file.Left(),
	}
	if p.peek, err = newPeek(); err == nil {
		if err = p.add(wake, unix.EPOLLIN, nil); err == nil {
			return p, nil
		}
		p.peek.close()
	}
	_ = unix.Close(epoll)
	_ = unix.Close(wake)
	return nil, err
}

// Run reads until Stop.
func (p *Pump) Run() error {
	defer close(p.ended)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(p.epoll, events, p.timeout())
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for output: %w", err)
		}
		woken := false
		for _, event := range events[:max(n, 0)] {
			if event.Fd == int32(p.wake) {
				woken = true
			} else if r := p.ready[event.Fd]; r != nil {
				r.readable(event.Events)
			}
		}
		now := time.Now()
		p.release(now)
		p.tellLosses(now)
		// Functions come last: one that closes a descriptor must not do so while
		// events of this round may still name it.
		if woken && !p.runQueue() {
			return nil
		}
	}
}

// Stop makes Run return, after what was handed to it before.
func (p *Pump) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.notify()
	<-p.ended
}

// do hands f to the goroutine of Run. It reports false when that has stopped.
func (p *Pump) do(f func()) bool {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return false
	}
	p.queue = append(p.queue, f)
	p.mu.Unlock()
	p.notify()
	return true
}

// call is do, and waits until f has run.
func (p *Pump) call(f func()) error {
	done := make(chan struct{})
	if !p.do(func() { f(); close(done) }) {
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-p.ended:
		return ErrStopped
	}
}

func (p *Pump) notify() {
	one := [8]byte{1}
	// The only possible failure is that the counter is full: then Run is awake.
	_, _ = unix.Write(p.wake, one[:])
}

func (p *Pump) runQueue() bool {
	var counter [8]byte
	_, _ = unix.Read(p.wake, counter[:])
	p.mu.Lock()
	queue, stopped := p.queue, p.stopped
	p.queue = nil
	p.mu.Unlock()
	for _, f := range queue {
		f()
	}
	return !stopped
}

func (p *Pump) add(fd int, events uint32, r readier) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("wait for events of descriptor %d: %w", fd, err)
	}
	p.ready[int32(fd)] = r
	return nil
}

// change sets the events that are waited for.
func (p *Pump) change(fd int, events uint32) {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, fd, &event); err != nil {
		p.logger.Error("change what is waited for", "fd", fd, "error", err)
	}
}

// remove ends waiting for fd, and must come before it is closed: a duplicate
// elsewhere would keep the kernel's registration alive.
func (p *Pump) remove(fd int) {
	delete(p.ready, int32(fd))
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		p.logger.Error("stop waiting for a descriptor", "fd", fd, "error", err)
	}
}

// hold puts a stream on the list of those with an unfinished line.
func (p *Pump) hold(s *stream) {
	if !s.listed {
		s.listed = true
		p.held = append(p.held, s)
	}
}

// timeout returns how long to wait for events, in milliseconds.
func (p *Pump) timeout() int {
	var due time.Time
	if len(p.held) > 0 {
		due = p.held[0].due
	}
	for _, o := range p.untold {
		if due.IsZero() || o.tellDue().Before(due) {
			due = o.tellDue()
		}
	}
	if due.IsZero() {
		return -1
	}
	return max(0, int((time.Until(due)+time.Millisecond-1)/time.Millisecond))
}

// release writes the unfinished lines that were kept back long enough. A stream
// whose line was finished meanwhile and that has begun another goes to the end
// of the list.
func (p *Pump) release(now time.Time) {
	for len(p.held) > 0 {
		s := p.held[0]
		if len(s.carry.Bytes()) > 0 && s.due.After(now) {
			return
		}
		p.held = p.held[1:]
		s.listed = false
		s.emit(crilog.Part, now)
	}
	p.held = nil
}

// complain says, once, that unfinished lines can't be kept back.
func (p *Pump) complain(err error) {
	if !p.complained {
		p.complained = true
		p.logger.Error("lines that come in pieces are written in pieces", "error", err)
	}
}
