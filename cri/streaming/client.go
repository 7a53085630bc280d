package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone: the client has closed its connection, or lost it, or its session has ended.
var ErrGone = errors.New("the client has gone")

// errSessionEnded: the client has ended its session by the protocol, or has broken that. Nothing is
// read from it any more, even if it keeps its connection.
var errSessionEnded = fmt.Errorf("%w: its session has ended", ErrGone)

const (
	// watchEvery is how often a connection is looked at that nobody reads.
	watchEvery = time.Second
	// lingerFor is how long a client has to close the connection after its session's end.
	lingerFor = 30 * time.Second
)

// client is a client's connection.
//
// Its end is noticed even if nobody reads it, because a command does not read its input.
// The client's kernel then can't deliver that it has closed, and tries for minutes; it
// answers that at once, though, if something is sent (probe).
type client struct {
	*net.TCPConn
	// gone ends with the connection, with the reason as its cause.
	gone   context.Context
	cancel context.CancelCauseFunc
	// active is when something was read or written last, in Unix nanoseconds.
	active atomic.Int64
	// reads counts the Reads so far, and reading those under way.
	reads, reading atomic.Int64
	// probe sends something that the client ignores; nil before there is a session.
	probe   atomic.Pointer[func()]
	probing atomic.Bool
	// lingers: Close waits until the client has read everything, because this side ends the
	// session. If the libraries close the connection before, the client has.
	lingers atomic.Bool
	closing atomic.Bool
	once    sync.Once
	// lingering are the goroutines of the server's connections that do so.
	lingering *sync.WaitGroup
}

// listener makes clients.
type listener struct {
	net.Listener
	lingering *sync.WaitGroup
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &client{TCPConn: conn.(*net.TCPConn), lingering: l.lingering}
	c.gone, c.cancel = context.WithCancelCause(context.Background())
	c.active.Store(time.Now().UnixNano())
	return c, nil
}

func (c *client) Read(p []byte) (int, error) {
	if c.closing.Load() {
		return 0, io.EOF
	}
	c.reads.Add(1)
	c.reading.Add(1)
	n, err := c.TCPConn.Read(p)
	c.reading.Add(-1)
	return n, c.moved(n, err)
}

func (c *client) Write(p []byte) (int, error) {
	if c.closing.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.TCPConn.Write(p)
	return n, c.moved(n, err)
}

// moved notes the outcome of a Read or Write.
func (c *client) moved(n int, err error) error {
	if n > 0 {
		c.active.Store(time.Now().UnixNano())
	}
	var timeout net.Error
	switch {
	case err == nil || errors.As(err, &timeout) && timeout.Timeout():
	case errors.Is(err, io.EOF):
		c.cancel(ErrGone)
	default:
		c.cancel(fmt.Errorf("%w: %w", ErrGone, err))
	}
	return err
}

// Close closes the connection. After a session the client gets to read all that was
// written: if data is still arriving, the kernel would drop what it has to send.
func (c *client) Close() error {
	if !c.lingers.Load() {
		c.cancel(errSessionEnded)
		return c.TCPConn.Close()
	}
	c.once.Do(func() {
		c.closing.Store(true)
		if c.TCPConn.CloseWrite() != nil || c.TCPConn.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
			_ = c.abort()
			return
		}
		c.lingering.Go(func() {
			_, _ = io.Copy(io.Discard, onlyReader{c.TCPConn})
			_ = c.abort()
		})
	})
	return nil
}

// abort closes the connection at once.
func (c *client) abort() error {
	c.cancel(ErrGone)
	return c.TCPConn.Close()
}

// onlyReader hides methods by which io.Copy would find shortcuts.
type onlyReader struct{ io.Reader }

// watch ends the connection when the client has gone, or when nothing has moved for idle
// (0: never). It returns when ctx is done.
func (c *client) watch(ctx context.Context, idle time.Duration) {
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	for reads := int64(-1); ; reads = c.reads.Load() {
		select {
		case <-ctx.Done():
			return
		case <-c.gone.Done():
			return
		case <-look.C:
		}
		quiet := time.Since(time.Unix(0, c.active.Load()))
		switch {
		case c.hungUp():
			c.cancel(ErrGone)
		case idle > 0 && quiet > idle:
			c.cancel(fmt.Errorf("nothing was sent or received for %v", quiet.Round(time.Second)))
		case c.reading.Load() == 0 && c.reads.Load() == reads:
			c.sendProbe()
		}
	}
}

// sendProbe sends something, and does not wait for it.
func (c *client) sendProbe() {
	probe := c.probe.Load()
	if probe == nil || !c.probing.CompareAndSwap(false, true) {
		return
	}
	go func() { // ends with the connection
		defer c.probing.Store(false)
		(*probe)()
	}()
}

// hungUp reports whether the client has closed its end, whatever there is still to read.
func (c *client) hungUp() bool {
	raw, err := c.TCPConn.SyscallConn()
	if err != nil {
		return true
	}
	fds := []unix.PollFd{{Events: unix.POLLRDHUP}}
	err = raw.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		_, _ = unix.Poll(fds, 0) // if this fails, the next look may not
	})
	return err != nil || fds[0].Revents != 0
}
