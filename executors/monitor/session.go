package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	minVersion = 1
	maxVersion = 2
	// versionTerminals is the version since which there are terminals and all
	// else that proto/monitor/v1 lists for it.
	versionTerminals = 2
)

// session is one connection to the monitor.
type session struct {
	conn    *wire.Conn
	welcome *pb.Welcome
	// lost is closed when the connection has ended; then err says why.
	lost chan struct{}
	err  error

	mu      sync.Mutex
	lastID  uint64
	pending map[uint64]*mailbox
}

// frame is a reply with the descriptors that came with it.
type frame struct {
	reply *pb.Reply
	fds   []int
}

func (f frame) close() { closeAll(f.fds) }

// mailbox holds the replies to one request. It has no bound, so that a caller
// that is slow to take its replies doesn't hold up those of others.
type mailbox struct {
	mu     sync.Mutex
	frames []frame
	closed bool
	// mail has an element when frames may have one.
	mail chan struct{}
}

func newMailbox() *mailbox { return &mailbox{mail: make(chan struct{}, 1)} }

func (m *mailbox) put(f frame) {
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.frames = append(m.frames, f)
	}
	m.mu.Unlock()
	if closed {
		f.close()
		return
	}
	select {
	case m.mail <- struct{}{}:
	default:
	}
}

// take returns the next frame, if there is one.
func (m *mailbox) take() (frame, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.frames) == 0 {
		return frame{}, false
	}
	f := m.frames[0]
	m.frames = m.frames[1:]
	return f, true
}

func (m *mailbox) has() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.frames) > 0
}

func (m *mailbox) close() {
	m.mu.Lock()
	frames := m.frames
	m.frames, m.closed = nil, true
	m.mu.Unlock()
	for _, f := range frames {
		f.close()
	}
}

// openSession connects to a monitor and agrees on a version, until ctx ends: what
// listens may not answer.
func openSession(ctx context.Context, path string, hello *pb.Hello) (*session, error) {
	conn, err := wire.Dial(path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, conn.Close)
	s := &session{conn: conn, lost: make(chan struct{}), pending: map[uint64]*mailbox{}}
	err = s.hello(hello)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// speaks reports whether a version of the protocol, or a later one, was agreed on.
func (s *session) speaks(version uint32) bool { return s.welcome.Version >= version }

// tooOld is the error for a call that the monitor doesn't know.
func (s *session) tooOld() error {
	return fmt.Errorf("%w: build %q speaks version %d of the protocol", ErrUnimplemented, s.welcome.Build, s.welcome.Version)
}

func (s *session) hello(hello *pb.Hello) error {
	hello.MinVersion, hello.MaxVersion = minVersion, maxVersion
	err := s.conn.Send(&pb.Request{Call: &pb.Request_Hello{Hello: hello}})
	if err != nil {
		return err
	}
	reply := new(pb.Reply)
	fds, err := s.conn.Receive(reply)
	if err != nil {
		return fmt.Errorf("greet the monitor: %w", err)
	}
	closeAll(fds)
	if reply.Failure != nil {
		return fmt.Errorf("greet the monitor: %w", failureError(reply.Failure))
	}
	if s.welcome = reply.GetWelcome(); s.welcome == nil {
		return errors.New("greet the monitor: it answered something else than a welcome")
	}
	return nil
}

// run hands out replies until the connection ends.
func (s *session) run() {
	for {
		reply := new(pb.Reply)
		fds, err := s.conn.Receive(reply)
		if err != nil {
			s.err = err
			s.conn.Close()
			close(s.lost)
			return
		}
		f := frame{reply: reply, fds: fds}
		s.mu.Lock()
		box := s.pending[reply.Id]
		s.mu.Unlock()
		if box == nil {
			// The caller has gone.
			f.close()
			continue
		}
		box.put(f)
	}
}

// call is a request whose replies are awaited.
type call struct {
	session *session
	id      uint64
	box     *mailbox
	// failure is that of the last reply; nil for none.
	failure *pb.Failure
}

// start sends a request. The call must be closed.
func (s *session) start(req *pb.Request, fds ...int) (*call, error) {
	c := &call{session: s, box: newMailbox()}
	s.mu.Lock()
	s.lastID++
	c.id = s.lastID
	s.pending[c.id] = c.box
	s.mu.Unlock()
	// A request is sent again, to another monitor, by its caller.
	sent := &pb.Request{Id: c.id, Descriptors: req.Descriptors, Call: req.Call}
	if err := s.conn.Send(sent, fds...); err != nil {
		c.close()
		if errors.Is(err, wire.ErrTooLarge) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return c, nil
}

// next waits for a reply. A failure is an error. The frame is the caller's to
// close.
func (c *call) next(ctx context.Context) (frame, error) {
	for {
		f, ok := c.box.take()
		if ok {
			if c.failure = f.reply.Failure; c.failure != nil {
				f.close()
				return frame{}, failureError(c.failure)
			}
			return f, nil
		}
		select {
		case <-c.box.mail:
		case <-ctx.Done():
			return frame{}, ctx.Err()
		case <-c.session.lost:
			// What came before the end counts.
			if c.box.has() {
				continue
			}
			return frame{}, fmt.Errorf("%w: %w", ErrLost, c.session.err)
		}
	}
}

func (c *call) close() {
	c.session.mu.Lock()
	delete(c.session.pending, c.id)
	c.session.mu.Unlock()
	c.box.close()
}

// roundTrip sends a request and returns its first reply.
func (s *session) roundTrip(ctx context.Context, req *pb.Request, fds ...int) (frame, error) {
	c, err := s.start(req, fds...)
	if err != nil {
		return frame{}, err
	}
	defer c.close()
	return c.next(ctx)
}

// do is roundTrip for requests that are answered with nothing.
func (s *session) do(ctx context.Context, req *pb.Request, fds ...int) error {
	f, err := s.roundTrip(ctx, req, fds...)
	f.close()
	return err
}

// list returns all containers.
func (s *session) list(ctx context.Context) ([]*pb.Container, error) {
	c, err := s.start(&pb.Request{Call: &pb.Request_List{List: &pb.List{}}})
	if err != nil {
		return nil, err
	}
	defer c.close()
	var all []*pb.Container
	for {
		f, err := c.next(ctx)
		if err != nil {
			return nil, err
		}
		f.close()
		if container := f.reply.GetContainer(); container != nil {
			all = append(all, container)
		}
		if !f.reply.More {
			return all, nil
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
