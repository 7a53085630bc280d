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
	maxVersion = 3
	// versionTerminals is the version that brought terminals and all else that
	// proto/monitor/v1 lists for it.
	versionTerminals = 2
	// versionNotifier is the version that answers forbidden system calls.
	versionNotifier = 3
)

// session is one connection to the monitor.
type session struct {
	conn    *wire.Conn
	welcome *pb.Welcome
	// lost is closed when the connection has ended; then err is set.
	lost chan struct{}
	err  error

	mu      sync.Mutex
	lastID  uint64
	pending map[uint64]*mailbox
}

// openSession connects to a monitor and negotiates a version, until ctx ends: the
// listener may not answer.
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

// speaks reports whether the negotiated version is at least this one.
func (s *session) speaks(version uint32) bool { return s.welcome.Version >= version }

// tooOld is the error for a call that the monitor does not know.
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
		return errors.New("greet the monitor: its answer is no welcome")
	}
	return nil
}

// run dispatches replies until the connection ends.
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

// roundTrip sends a request and returns its first reply.
func (s *session) roundTrip(ctx context.Context, req *pb.Request, fds ...int) (frame, error) {
	c, err := s.start(req, fds...)
	if err != nil {
		return frame{}, err
	}
	defer c.close()
	return c.next(ctx)
}

// do is roundTrip for requests without a result.
func (s *session) do(ctx context.Context, req *pb.Request, fds ...int) error {
	f, err := s.roundTrip(ctx, req, fds...)
	f.close()
	return err
}

// list returns all containers; unless only is empty, no other than that.
func (s *session) list(ctx context.Context, only string) ([]*pb.Container, error) {
	c, err := s.start(&pb.Request{Call: &pb.Request_List{List: &pb.List{ContainerId: only}}})
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
		container := f.reply.GetContainer()
		// A monitor from before that field answers with all.
		if container != nil && (only == "" || container.Id == only) {
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
