package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// spdyConn is a SPDY connection, and the streams that the client opens on it.
type spdyConn struct {
	httpstream.Connection
	client *client
	conn   net.Conn
	ctx    context.Context
	stop   context.CancelFunc
	// arrivals are new streams, refused once full is closed.
	arrivals chan arrival
	full     chan struct{}
}

// arrival is a new stream, which must not be written to before its reply was sent.
type arrival struct {
	httpstream.Stream
	replied <-chan struct{}
}

// upgrade makes an HTTP connection one of SPDY, if the client asks for it in one of the
// protocols.
func (q *request) upgrade(ctx context.Context, protocols []string) (c *spdyConn, protocol string, err error) {
	has := func(header, word string) bool { return strings.Contains(strings.ToLower(q.Header.Get(header)), word) }
	if !has(httpstream.HeaderConnection, "upgrade") || !has(httpstream.HeaderUpgrade, strings.ToLower(spdy.HeaderSpdy31)) {
		http.Error(q.w, "neither an upgrade to SPDY/3.1 nor to WebSocket was requested", http.StatusBadRequest)
		return nil, "", errors.New("no upgrade was requested")
	}
	if protocol, err = httpstream.Handshake(q.Request, q.w, protocols); err != nil {
		return nil, "", err
	}
	q.w.Header().Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	q.w.Header().Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	q.w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(q.w).Hijack()
	if err != nil {
		return nil, "", fmt.Errorf("take over a connection: %w", err)
	}
	c, err = q.serveSPDY(ctx, &frames{Conn: conn, in: buffered.Reader})
	return c, protocol, err
}

// serveSPDY serves SPDY on a connection, which it owns.
func (q *request) serveSPDY(ctx context.Context, conn *frames) (*spdyConn, error) {
	probe := conn.ping
	q.client.probe.Store(&probe)
	c := &spdyConn{client: q.client, conn: conn, arrivals: make(chan arrival), full: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(ctx)
	var err error
	c.Connection, err = spdy.NewServerConnection(conn, c.arrived)
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("speak SPDY: %w", err)
	}
	go func() {
		select {
		case <-c.CloseChan():
			if c.ctx.Err() == nil {
				c.client.cancel(errSessionEnded)
			}
		case <-c.ctx.Done():
		}
	}()
	return c, nil
}

// arrived is called for each new stream. It must end with the connection, which waits for
// it.
func (c *spdyConn) arrived(stream httpstream.Stream, replied <-chan struct{}) error {
	select {
	case <-c.full:
		return errors.New("the client has all its streams")
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	default:
	}
	select {
	case c.arrivals <- arrival{stream, replied}:
		return nil
	case <-c.full:
		return errors.New("the client has all its streams")
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// awaitReply waits until a stream can be written to. If the reply could not be sent, a
// write would never return.
func (c *spdyConn) awaitReply(a arrival) error {
	select {
	case <-a.replied:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	select {
	case <-c.CloseChan():
		return ErrGone
	default:
		return context.Cause(c.ctx)
	}
}

// end resets all streams, and closes the connection.
func (c *spdyConn) end() {
	c.stop()
	c.client.lingers.Store(true)
	_ = c.Connection.Close()
	// By itself it would wait until the client has closed its streams, too.
	_ = c.conn.Close()
}

// openSPDY opens the client's streams by SPDY.
func (c Command) openSPDY(ctx context.Context, q *request) (*channels, error) {
	conn, protocol, err := q.upgrade(ctx, remotecommand.SupportedStreamingProtocols)
	if err != nil {
		return nil, err
	}
	sizes := c.TTY && (protocol == remotecommand.StreamProtocolV3Name || protocol == remotecommand.StreamProtocolV4Name)
	opened, err := conn.open(map[string]bool{
		remotecommand.StreamTypeError: true, remotecommand.StreamTypeStdin: c.Stdin, remotecommand.StreamTypeStdout: c.Stdout,
		remotecommand.StreamTypeStderr: c.Stderr, remotecommand.StreamTypeResize: sizes,
	}, q.server.config.CreationTimeout)
	if err != nil {
		conn.end()
		return nil, err
	}
	ch := &channels{
		status: opened[remotecommand.StreamTypeError], jsonStatus: protocol == remotecommand.StreamProtocolV4Name,
		close: conn.end,
	}
	if sizes {
		ch.sizes = opened[remotecommand.StreamTypeResize]
	}
	if c.Stdin {
		ch.stdin = spdyInput{opened[remotecommand.StreamTypeStdin]}
	}
	ch.stdout, ch.stderr = spdyOutput{opened[remotecommand.StreamTypeStdout]}, spdyOutput{opened[remotecommand.StreamTypeStderr]}
	ch.endOutput = func() {
		for _, kind := range []string{remotecommand.StreamTypeStdout, remotecommand.StreamTypeStderr} {
			if stream := opened[kind]; stream != nil {
				_ = stream.Close() // fails if the client has gone
			}
		}
	}
	return ch, nil
}

// open waits until the client has opened the wanted streams. Others are refused.
func (c *spdyConn) open(wanted map[string]bool, within time.Duration) (map[string]httpstream.Stream, error) {
	defer close(c.full)
	late := time.NewTimer(within)
	defer late.Stop()
	opened, missing := map[string]httpstream.Stream{}, 0
	for _, want := range wanted {
		if want {
			missing++
		}
	}
	for ; missing > 0; missing-- {
		select {
		case a := <-c.arrivals:
			kind := a.Headers().Get(remotecommand.StreamType)
			if !wanted[kind] || opened[kind] != nil {
				return nil, fmt.Errorf("the client opened a stream of the type %q, which is not wanted, or not twice", kind)
			}
			if err := c.awaitReply(a); err != nil {
				return nil, err
			}
			opened[kind] = a.Stream
		case <-late.C:
			return nil, fmt.Errorf("the client has not opened all its streams within %v", within)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
	return opened, nil
}

// spdyInput is a stream that is only read. Close ends reading.
type spdyInput struct{ httpstream.Stream }

func (s spdyInput) Close() error { return s.Reset() }

// spdyOutput is a stream that is only written.
type spdyOutput struct{ stream httpstream.Stream }

func (s spdyOutput) Write(p []byte) (int, error) {
	if wasReset(s.stream) {
		return 0, io.ErrClosedPipe
	}
	return s.stream.Write(p)
}

// wasReset reports whether the client has reset a stream that this side has not closed.
// The library would go on sending.
func wasReset(s httpstream.Stream) bool {
	finisher, ok := s.(interface{ IsFinished() bool })
	return ok && finisher.IsFinished()
}
