package streaming_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/spdystream/spdy"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"

	"github.com/stele-runtime/stele/cri/streaming"
)

// patience bounds how long a test waits for what must happen.
const patience = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	streaming.RouteLibraryLogs(quiet)
	os.Exit(m.Run())
}

// lab is a running server.
type lab struct {
	*streaming.Server
	t testing.TB
	// log is what the server logs, at all levels.
	log *syncBuffer
}

func newLab(t testing.TB, change func(*streaming.Config)) *lab {
	t.Helper()
	log := &syncBuffer{}
	config := streaming.Config{
		Address: "127.0.0.1:0", CreationTimeout: patience,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	server, err := streaming.Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(context.Background())
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		server.End(ctx)
		<-served
		if strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the server logged\n%s", log)
		}
	})
	return &lab{server, t, log}
}

// must returns a URL.
func (l *lab) must(url string, err error) string {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	return url
}

// transports are how clients speak, by name. Without halfClose they cannot end their
// input; without codes they learn only that something failed. Clients of the first version
// of SPDY do neither, and may not even learn that: its flaws were why there is a second.
var transports = []struct {
	name             string
	halfClose, codes bool
	dial             func(config *rest.Config, url *url.URL) (remotecommand.Executor, error)
}{
	{"SPDY", true, true, func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(c, "POST", u)
	}},
	{"SPDY v3", true, false, spdyOf("v3.channel.k8s.io")},
	{"SPDY v2", true, false, spdyOf("v2.channel.k8s.io")},
	{firstVersion, false, false, spdyOf("channel.k8s.io")},
	{"WebSocket", true, true, func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, "GET", u.String())
	}},
	{"WebSocket v4", false, true, func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(c, "GET", u.String(), "v4.channel.k8s.io")
	}},
}

const firstVersion = "SPDY v1"

func spdyOf(protocol string) func(*rest.Config, *url.URL) (remotecommand.Executor, error) {
	return func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		transport, upgrader, err := clientspdy.RoundTripperFor(c)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, http.MethodPost, u, protocol)
	}
}

// stream runs a client of a transport to its end.
func (l *lab) stream(ctx context.Context, transport int, address string, options remotecommand.StreamOptions) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	executor, err := transports[transport].dial(&rest.Config{}, u)
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, options)
}

// eventually waits until a condition holds.
func (l *lab) eventually(what string, holds func() bool) {
	l.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	buffer := make([]byte, 1<<20)
	l.t.Fatalf("not so after %v: %s\n%s", patience, what, buffer[:runtime.Stack(buffer, true)])
}

// upgrade makes a connection that has left HTTP, for a test that writes the protocol's frames itself.
func (l *lab) upgrade(method, address string, headers http.Header) net.Conn {
	l.t.Helper()
	request, err := http.NewRequestWithContext(l.t.Context(), method, address, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", request.URL.Host)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	request.Header = headers
	request.Header.Set("Connection", "Upgrade")
	if err := request.Write(conn); err != nil {
		l.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		l.t.Fatalf("%+v, %v", response, err)
	}
	return conn
}

// webSocket makes a connection of WebSocket.
func (l *lab) webSocket(address, protocol string) net.Conn {
	l.t.Helper()
	return l.upgrade(http.MethodGet, address, http.Header{
		"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OTAxMjM0NQ=="},
		"Sec-Websocket-Protocol": {protocol},
	})
}

// spdyClient is a client that writes frames of SPDY, and does only what the test says.
type spdyClient struct {
	t testing.TB
	net.Conn
	*spdy.Framer
	streams spdy.StreamId
}

func (l *lab) spdyClient(address, protocol string) *spdyClient {
	l.t.Helper()
	conn := l.upgrade(http.MethodPost, address, http.Header{"Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {protocol}})
	framer, err := spdy.NewFramer(conn, conn)
	if err != nil {
		l.t.Fatal(err)
	}
	return &spdyClient{t: l.t, Conn: conn, Framer: framer}
}

// open opens a stream, and does not wait for the answer.
func (c *spdyClient) open(headers http.Header) error {
	id := 2*c.streams + 1
	c.streams++
	return c.WriteFrame(&spdy.SynStreamFrame{StreamId: id, Headers: headers})
}

// awaitReply reads until a stream is accepted.
func (c *spdyClient) awaitReply() {
	c.t.Helper()
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if _, is := frame.(*spdy.SynReplyFrame); is {
			return
		}
	}
}

// goroutines counts those that are not the client library's, which leaves some behind.
func goroutines() (count int) {
	buffer := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if !strings.Contains(stack, "k8s.io/client-go") {
			count++
		}
	}
	return count
}

// noMoreGoroutines waits until there are no more than before.
func (l *lab) noMoreGoroutines(before int) {
	l.t.Helper()
	l.eventually("no goroutine is left", func() bool { return goroutines() <= before })
}

// relay returns a URL that leads to the same server by another connection, which cut
// closes, as the kernel does for a client that was killed.
func (l *lab) relay(address string) (relayed string, cut func()) {
	l.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		l.t.Fatal(err)
	}
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var relaying sync.WaitGroup
	relaying.Go(func() {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		onward, err := net.Dial("tcp", server)
		if err != nil {
			l.t.Error(err)
			return
		}
		defer onward.Close()
		relaying.Go(func() { _, _ = io.Copy(onward, client) })
		relaying.Go(func() { _, _ = io.Copy(client, onward) })
		<-ctx.Done()
	})
	cut = func() {
		cancel()
		listener.Close()
		relaying.Wait()
	}
	l.t.Cleanup(cut)
	return u.String(), cut
}

// syncBuffer may be written and read by several goroutines.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// endless is input that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// never is input that never comes, until it is closed.
func never(t testing.TB) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r
}
