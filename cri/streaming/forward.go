package streaming

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Forward connects a client with ports.
type Forward struct {
	// Ports are for clients of the oldest WebSocket protocol, which cannot name them.
	Ports []uint16
	// Dial connects to a port; its error is shown to the client. Its context ends when the
	// client has gone.
	Dial func(ctx context.Context, port uint16) (Port, error)
}

// Port is a connection to a port.
type Port interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// PortForward returns a URL for a port-forward.
func (s *Server) PortForward(f Forward) (url string, err error) { return s.offer("portforward", f) }

// maxForwards bounds the connections that a client may have at a time.
const maxForwards = 1000

func (f Forward) serve(ctx context.Context, q *request) {
	var err error
	switch {
	case wsstream.IsWebSocketRequestWithTunnelingProtocol(q.Request):
		f.serveTunnel(ctx, q)
	case wsstream.IsWebSocketRequest(q.Request):
		err = f.serveChannels(ctx, q)
	default:
		var conn *spdyConn
		if conn, _, err = q.upgrade(ctx, []string{portforward.PortForwardV1Name}); err == nil {
			newForwarding(f, conn, q.server).run()
		}
	}
	if err != nil {
		q.server.config.Logger.Debug("a client's port-forward was not begun", "error", err)
	}
}

// serveTunnel serves SPDY in WebSocket messages.
func (f Forward) serveTunnel(ctx context.Context, q *request) {
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			for _, name := range config.Protocol {
				if name == portforward.WebsocketsSPDYTunnelingPortForwardV1 {
					config.Protocol = []string{name}
					return nil
				}
			}
			return errors.New("the client wants another protocol in its tunnel")
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			conn, err := q.serveSPDY(ctx, &frames{Conn: ws, in: bufio.NewReader(ws)})
			if err != nil {
				q.server.config.Logger.Debug("a client's port-forward was not begun", "error", err)
				return
			}
			newForwarding(f, conn, q.server).run()
		},
	}.ServeHTTP(q.w, q.Request)
}

// pair are the two streams of a forwarded connection.
type pair struct {
	id   string
	port uint16
	// data and errors are nil until they arrive.
	data, errors *arrival
	late         *time.Timer
}

// forwarding serves the connections that a client opens by SPDY. Its fields belong to the
// goroutine of run.
type forwarding struct {
	Forward
	*spdyConn
	server *Server
	// incomplete are the pairs of which one stream is missing, by their ids, and late
	// receives those for which the client has taken too long.
	incomplete map[string]*pair
	late       chan *pair
	// open counts the connections, and ended receives each end.
	open  int
	ended chan struct{}
	all   sync.WaitGroup
}

func newForwarding(f Forward, c *spdyConn, s *Server) *forwarding {
	return &forwarding{
		Forward: f, spdyConn: c, server: s,
		incomplete: map[string]*pair{}, late: make(chan *pair), ended: make(chan struct{}),
	}
}

// run serves until the client's connection ends.
func (f *forwarding) run() {
	defer f.all.Wait()
	defer f.end()
	for {
		select {
		case <-f.ctx.Done():
			for _, p := range f.incomplete {
				p.late.Stop()
			}
			return
		case a := <-f.arrivals:
			if err := f.take(a); err != nil {
				f.server.config.Logger.Debug("a stream of a port-forward is refused", "error", err)
				f.drop(&a)
			}
		case p := <-f.late:
			if f.incomplete[p.id] == p {
				delete(f.incomplete, p.id)
				f.drop(p.data)
				f.drop(p.errors)
			}
		case <-f.ended:
			f.open--
		}
	}
}

// take takes a new stream, and serves its connection if it is the second.
func (f *forwarding) take(a arrival) error {
	id, port, isData, err := describe(a)
	if err != nil {
		return err
	}
	p := f.incomplete[id]
	if p == nil {
		if f.open+len(f.incomplete) >= maxForwards {
			return fmt.Errorf("the client has %d connections", maxForwards)
		}
		p = &pair{id: id, port: port}
		p.late = time.AfterFunc(f.server.config.CreationTimeout, func() { send(f.ctx, f.late, p) })
		f.incomplete[id] = p
	}
	half := &p.errors
	if isData {
		half, p.port = &p.data, port
	}
	if *half != nil {
		return fmt.Errorf("the request %q has such a stream", id)
	}
	*half = &a
	if p.data == nil || p.errors == nil {
		return nil
	}
	p.late.Stop()
	delete(f.incomplete, id)
	f.open++
	f.all.Go(func() {
		defer send(f.ctx, f.ended, struct{}{})
		defer f.server.recover()
		f.connect(p)
	})
	return nil
}

func send[T any](ctx context.Context, to chan<- T, value T) {
	select {
	case to <- value:
	case <-ctx.Done():
	}
}

// describe reads a stream's headers.
func describe(a arrival) (id string, port uint16, isData bool, err error) {
	text := a.Headers().Get(portforward.PortHeader)
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return "", 0, false, fmt.Errorf("%q is not a port", text)
	}
	kind := a.Headers().Get(portforward.StreamType)
	if kind != portforward.StreamTypeData && kind != portforward.StreamTypeError {
		return "", 0, false, fmt.Errorf("%q is not a type of stream", kind)
	}
	isData = kind == portforward.StreamTypeData
	if id = a.Headers().Get(portforward.PortForwardRequestIDHeader); id == "" {
		// Clients before Kubernetes 1.2 open the stream for errors, then that for data.
		first := a.Identifier()
		if isData {
			first -= 2
		}
		id = strconv.FormatUint(uint64(first), 10)
	}
	return id, uint16(number), isData, nil
}

// drop resets a stream, if there is one, and forgets it.
func (c *spdyConn) drop(a *arrival) {
	if a != nil {
		_ = a.Reset() // fails if the client has gone
		c.RemoveStreams(a.Stream)
	}
}

// connect serves one connection. That it breaks is not told on the stream for errors:
// clients end the whole port-forward for whatever comes there.
func (f *forwarding) connect(p *pair) {
	defer f.drop(p.errors)
	defer f.drop(p.data)
	if errors.Join(f.awaitReply(*p.errors), f.awaitReply(*p.data)) != nil {
		return
	}
	port, err := f.dial(f.ctx, p.port)
	if err != nil {
		_, _ = io.WriteString(p.errors, err.Error())
		_ = p.errors.Close()
		return
	}
	join(f.ctx, spdyTunnel{p.data.Stream}, port)
	// After an orderly end resetting sends nothing.
	_ = p.errors.Close()
}

func (f Forward) dial(ctx context.Context, port uint16) (Port, error) {
	conn, err := f.Dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("forward port %d: %w", port, err)
	}
	return conn, nil
}

// tunnel is the client's end of a connection.
type tunnel interface {
	io.ReadWriter
	// CloseWrite tells the client that nothing more comes.
	CloseWrite() error
	// Reset ends both ways.
	Reset() error
}

// spdyTunnel is a SPDY stream that notices its reset by the client.
type spdyTunnel struct{ stream httpstream.Stream }

func (t spdyTunnel) Read(p []byte) (int, error)  { return t.stream.Read(p) }
func (t spdyTunnel) Write(p []byte) (int, error) { return spdyOutput(t).Write(p) }
func (t spdyTunnel) CloseWrite() error           { return t.stream.Close() }
func (t spdyTunnel) Reset() error                { return t.stream.Reset() }

// copySize is the size of the buffer for what comes from a port, in bytes.
const copySize = 64 << 10

// join copies both ways. The end of one is passed on, and the other continues, as in TCP;
// when one breaks, both end.
func join(ctx context.Context, client tunnel, port Port) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() { _ = port.Close() }()
	broken := context.AfterFunc(ctx, func() {
		_ = client.Reset()
		_ = port.Close()
	})
	defer cancel()
	defer broken()
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := io.Copy(port, onlyReader{client}); err != nil || port.CloseWrite() != nil {
			cancel()
		}
	})
	both.Go(func() {
		if _, err := io.CopyBuffer(onlyWriter{client}, onlyReader{port}, make([]byte, copySize)); err != nil || client.CloseWrite() != nil {
			cancel()
		}
	})
	both.Wait()
}

// onlyWriter hides methods by which io.Copy would find shortcuts.
type onlyWriter struct{ io.Writer }

// serveChannels serves the oldest WebSocket protocol: one connection to each port.
func (f Forward) serveChannels(ctx context.Context, q *request) error {
	var channels []wsstream.ChannelType
	for range f.Ports {
		channels = append(channels, wsstream.ReadWriteChannel, wsstream.WriteChannel)
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		"": {Binary: true, Channels: channels}, protocolV4: {Binary: true, Channels: channels}, protocolV4Base64: {Channels: channels},
	})
	_, opened, err := conn.Open(q.w, q.Request)
	if err != nil {
		return fmt.Errorf("speak WebSocket: %w", err)
	}
	defer func() {
		q.client.lingers.Store(true)
		_ = conn.Close() // fails if the client has gone
	}()
	if len(opened) > 0 {
		probe := func() { _, _ = opened[1].Write(nil) } // an empty message for errors
		q.client.probe.Store(&probe)
	}
	var forwarded sync.WaitGroup
	for i, port := range f.Ports {
		forwarded.Go(func() {
			defer q.server.recover()
			f.connectChannel(ctx, port, opened[2*i], opened[2*i+1])
		})
	}
	forwarded.Wait()
	return nil
}

func (f Forward) connectChannel(ctx context.Context, number uint16, data, errs io.ReadWriteCloser) {
	// Each channel begins with the port's number.
	for _, w := range []io.Writer{data, errs} {
		if _, err := w.Write(binary.LittleEndian.AppendUint16(nil, number)); err != nil {
			return
		}
	}
	port, err := f.dial(ctx, number)
	if err != nil {
		_, _ = io.WriteString(errs, err.Error())
		return
	}
	join(ctx, channelTunnel{data}, port)
}

// channelTunnel is a channel of WebSocket messages, which cannot be half closed.
type channelTunnel struct{ io.ReadWriteCloser }

func (t channelTunnel) CloseWrite() error { return t.Close() }
func (t channelTunnel) Reset() error      { return t.Close() }
