package monitor

import (
	"context"
	"fmt"
	"sync"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// frame is a reply with the descriptors that came with it.
type frame struct {
	reply *pb.Reply
	fds   []int
}

func (f frame) close() { closeAll(f.fds) }

// mailbox holds the replies to one request. It is unbounded, so that a slow caller
// does not delay the others.
type mailbox struct {
	mu     sync.Mutex
	frames []frame
	closed bool
	// mail has an element when frames may be non-empty.
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

// call is a request in flight.
type call struct {
	session *session
	id      uint64
	box     *mailbox
	// failure is the last reply's; nil for none.
	failure *pb.Failure
}

// next waits for a reply. A failure becomes an error. The caller closes the frame.
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
			// Replies from before the end count.
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

// nextRuntime is next for a request that runs the runtime, whose failure becomes a
// *RuntimeError.
func (c *call) nextRuntime(ctx context.Context, op string, args []string) (frame, error) {
	f, err := c.next(ctx)
	failure := c.failure
	if failure.GetCode() != pb.Failure_CODE_RUNTIME {
		return f, err
	}
	return frame{}, &RuntimeError{
		Op:       op,
		ExitCode: int(failure.Runtime.GetExitCode()),
		TimedOut: failure.Runtime.GetTimedOut(),
		Message:  logMessage(args),
		Stderr:   string(failure.Runtime.GetStderr()),
	}
}
