package pump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

const (
	// maxPending is how far a client may fall behind, in bytes for each stream and in
	// addition to what its pipe holds.
	maxPending = 4 << 20
	// maxAllPending is how far all clients may fall behind together, in bytes. Then the
	// one that is furthest behind is dropped.
	maxAllPending = 32 << 20
)

// ErrSlow: a client fell behind too far.
var ErrSlow = fmt.Errorf("more than %d bytes were waiting to be read, or %d by all clients", maxPending, maxAllPending)

// Client gets a copy of what a container writes.
type Client struct {
	// Stdout and Stderr are pipes or sockets, non-blocking; -1 for none.
	Stdout, Stderr int
	// Gone is called once, in the pump's goroutine, and must not block: with nil when
	// the container's output has ended and all of it was passed on, with ErrSlow, or
	// with the error of a write.
	Gone func(error)
}

// AddClient passes the output on to a client too, from now on. The pump owns the
// descriptors, also after an error. remove drops the client without calling Gone, at
// any time.
func (o *Output) AddClient(c Client) (remove func(), err error) {
	k := &client{out: o, gone: c.Gone}
	var addErr error
	err = o.pump.loop.call(func() { addErr = k.open(c) })
	if errors.Is(err, ErrStopped) {
		Pipes{Stdout: c.Stdout, Stderr: c.Stderr}.Close()
	}
	if err = errors.Join(err, addErr); err != nil {
		return nil, fmt.Errorf("pass a container's output on: %w", err)
	}
	return func() { _ = o.pump.loop.call(k.drop) }, nil
}

// client is a Client in the pump's goroutine.
type client struct {
	out   *Output
	gone  func(error)
	sinks []*sink
	// ending: the container's output has ended.
	ending bool
}

// sink is one descriptor of a client.
type sink struct {
	client *client
	fd     int
	kind   crilog.Stream
	// pending is what the descriptor has not taken yet.
	pending []byte
}

func (k *client) open(c Client) error {
	for kind, fd := range map[crilog.Stream]int{crilog.Stdout: c.Stdout, crilog.Stderr: c.Stderr} {
		if fd < 0 {
			continue
		}
		s := &sink{client: k, fd: fd, kind: kind}
		// Errors and hang-ups are always reported.
		if err := k.out.pump.loop.add(fd, 0, s); err != nil {
			for _, fd := range []int{c.Stdout, c.Stderr} {
				if fd >= 0 && !slices.ContainsFunc(k.sinks, func(s *sink) bool { return s.fd == fd }) {
					_ = unix.Close(fd)
				}
			}
			k.drop()
			return err
		}
		k.sinks = append(k.sinks, s)
	}
	k.out.clients = append(k.out.clients, k)
	if !k.out.isRead() && k.out.began {
		k.end()
	}
	return nil
}

// pass passes output on to the clients.
func (o *Output) pass(kind crilog.Stream, data []byte) {
	// Cloned because clients that end leave the list.
	for _, k := range slices.Clone(o.clients) {
		for _, s := range k.sinks {
			if s.kind == kind {
				s.take(data)
				break
			}
		}
	}
}

// take writes as much as the descriptor accepts now and keeps the rest.
func (s *sink) take(data []byte) {
	if len(s.pending) > 0 {
		s.keep(data)
		return
	}
	n, err := write(s.fd, data)
	if err != nil {
		s.client.leave(err)
		return
	}
	if n < len(data) && s.keep(data[n:]) {
		s.client.out.pump.loop.change(s.fd, unix.EPOLLOUT)
	}
}

// keep keeps data until the descriptor takes more. It reports false if the client was
// dropped instead.
func (s *sink) keep(data []byte) bool {
	if len(s.pending)+len(data) > maxPending {
		s.client.leave(ErrSlow)
		return false
	}
	p := s.client.out.pump
	for p.pending+len(data) > maxAllPending {
		slowest := p.slowest()
		if slowest == nil || len(slowest.pending) <= len(s.pending) {
			s.client.leave(ErrSlow)
			return false
		}
		slowest.client.leave(ErrSlow)
	}
	s.pending = append(s.pending, data...)
	p.pending += len(data)
	return true
}

// slowest returns the sink that is furthest behind; nil for none.
func (p *Pump) slowest() *sink {
	var slowest *sink
	for _, r := range p.loop.ready {
		if s, ok := r.(*sink); ok && (slowest == nil || len(s.pending) > len(slowest.pending)) {
			slowest = s
		}
	}
	return slowest
}

// readable is called when the descriptor accepts more, or never will.
func (s *sink) readable(uint32) {
	if len(s.pending) == 0 {
		// No other event was asked for: the other side has hung up.
		s.client.leave(unix.EPIPE)
		return
	}
	n, err := write(s.fd, s.pending)
	if err != nil {
		s.client.leave(err)
		return
	}
	s.client.out.pump.pending -= n
	if s.pending = s.pending[n:]; len(s.pending) > 0 {
		return
	}
	s.pending = nil
	s.client.out.pump.loop.change(s.fd, 0)
	if s.client.ending {
		s.client.end()
	}
}

// write writes as much as a non-blocking descriptor accepts.
func write(fd int, data []byte) (int, error) {
	written := 0
	for written < len(data) {
		n, err := unix.Write(fd, data[written:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// end drops the client once everything was passed on.
func (k *client) end() {
	k.ending = true
	if !slices.ContainsFunc(k.sinks, func(s *sink) bool { return len(s.pending) > 0 }) {
		k.leave(nil)
	}
}

func (k *client) leave(why error) {
	if k.drop(); k.gone != nil {
		gone := k.gone
		k.gone = nil
		gone(why)
	}
}

// drop closes a client's descriptors.
func (k *client) drop() {
	k.out.clients = slices.DeleteFunc(k.out.clients, func(other *client) bool { return other == k })
	for _, s := range k.sinks {
		k.out.pump.loop.remove(s.fd)
		_ = unix.Close(s.fd)
		k.out.pump.pending -= len(s.pending)
		s.pending = nil
	}
	k.sinks = nil
}
