package streaming_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/websocket"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	clientspdy "k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/stele-runtime/stele/cri/streaming"
)

// dialers are how clients forward ports.
var dialers = map[string]func(*url.URL) (httpstream.Dialer, error){
	"SPDY": func(u *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := clientspdy.RoundTripperFor(&rest.Config{})
		if err != nil {
			return nil, err
		}
		return clientspdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u), nil
	},
	"WebSocket": func(u *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, &rest.Config{})
	},
}

// pod is a server on a port of the node, in place of one in a pod.
type pod struct {
	net.Listener
	port uint16
}

func newPod(t testing.TB, serve func(*net.TCPConn)) pod {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			}()
		}
	}()
	return pod{listener, uint16(listener.Addr().(*net.TCPAddr).Port)}
}

// echoes answers what comes, and its end; "r" at the beginning is answered with a reset,
// "s" with zeros without end.
func echoes(conn *net.TCPConn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	switch first[0] {
	case 'r':
		_ = conn.SetLinger(0)
	case 's':
		_, _ = io.Copy(conn, endless{})
	default:
		_, _ = io.Copy(conn, io.MultiReader(bytes.NewReader(first), onlyRead{conn}))
	}
}

type onlyRead struct{ io.Reader }

// dialNode dials a port of the node.
func dialNode(ctx context.Context, port uint16) (streaming.Port, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// forward forwards a port with Kubernetes' own client, and returns the local address.
func (l *lab) forward(dialer string, port uint16) (address string, ended <-chan error, stop func()) {
	l.t.Helper()
	relayed, cut := l.relay(l.must(l.PortForward(streaming.Forward{Dial: dialNode})))
	address, ended, leave := l.forwardFrom(dialer, relayed, port)
	return address, ended, func() {
		leave()
		cut()
	}
}

// forwardFrom forwards a port from the server at a URL.
func (l *lab) forwardFrom(dialer, from string, port uint16) (address string, ended <-chan error, stop func()) {
	l.t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		l.t.Fatal(err)
	}
	d, err := dialers[dialer](u)
	if err != nil {
		l.t.Fatal(err)
	}
	stopped, ready, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewForStreaming(d, []string{fmt.Sprintf("0:%d", port)}, stopped, ready, io.Discard, io.Discard)
	if err != nil {
		l.t.Fatal(err)
	}
	go func() { end <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-end:
		l.t.Fatalf("%s: %v", dialer, err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		l.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { close(stopped) })
	l.t.Cleanup(stop)
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), end, stop
}

func (l *lab) dial(address string) *net.TCPConn {
	l.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// roundTrip sends a text, ends its half, and returns the answer.
func roundTrip(conn *net.TCPConn, text string) (string, error) {
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Many connections at a time over one, each half closed; one that is reset by the pod, or
// left by the client, ends alone (containerd#9875).
func TestForward(t *testing.T) {
	pod := newPod(t, echoes)
	for name := range dialers {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			before := goroutines()
			address, ended, stop := l.forward(name, pod.port)
			left := l.dial(address)
			if _, err := io.WriteString(left, "s"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(left, make([]byte, 1<<20)); err != nil {
				t.Error(err)
			}
			// Not later: what it does not read holds up others, by the protocol.
			left.Close()
			if answer, err := roundTrip(l.dial(address), "reset me"); answer != "" {
				t.Errorf("%q, %v", answer, err)
			}
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					text := strings.Repeat(fmt.Sprint(i), 200000)
					if answer, err := roundTrip(l.dial(address), text); err != nil || answer != text {
						t.Errorf("connection %d: %d bytes of %d, %v", i, len(answer), len(text), err)
					}
				})
			}
			all.Wait()
			select {
			case err := <-ended:
				t.Errorf("the port-forward ended: %v", err)
			default:
			}
			stop()
			<-ended
			l.noMoreGoroutines(before)
		})
	}
}

// A port on which nobody listens is told the client, with the reason.
func TestForwardRefused(t *testing.T) {
	l := newLab(t, nil)
	pod := newPod(t, echoes)
	pod.Close()
	address, ended, _ := l.forward("SPDY", pod.port)
	if answer, err := roundTrip(l.dial(address), "hello"); answer != "" {
		t.Errorf("%q, %v", answer, err)
	}
	// Kubernetes' client ends the whole for any error.
	if err := <-ended; !errors.Is(err, portforward.ErrLostConnectionToPod) {
		t.Errorf("the client ended with %v", err)
	}
}

// The oldest WebSocket protocol: one connection to each port of the request.
func TestForwardChannels(t *testing.T) {
	l := newLab(t, nil)
	echo, gone := newPod(t, echoes), newPod(t, echoes)
	gone.Close()
	before := goroutines()
	u := l.must(l.PortForward(streaming.Forward{Ports: []uint16{echo.port, gone.port}, Dial: dialNode}))
	ws, err := websocket.Dial(strings.Replace(u, "http", "ws", 1), "v4.channel.k8s.io", "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	got := map[byte][]byte{}
	receive := func() {
		t.Helper()
		var message []byte
		if err := websocket.Message.Receive(ws, &message); err != nil {
			t.Fatal(err)
		}
		got[message[0]] = append(got[message[0]], message[1:]...)
	}
	for len(got[0]) < 2 || len(got[1]) < 2 || len(got[2]) < 2 || len(got[3]) < 3 {
		receive()
	}
	for i, port := range []uint16{echo.port, echo.port, gone.port, gone.port} {
		if number := binary.LittleEndian.Uint16(got[byte(i)]); number != port {
			t.Errorf("channel %d is for port %d, want %d", i, number, port)
		}
	}
	if text := string(got[3][2:]); !strings.Contains(text, "connection refused") {
		t.Errorf("the error is %q", text)
	}
	if err := websocket.Message.Send(ws, []byte("\x00hello")); err != nil {
		t.Fatal(err)
	}
	for string(got[0][2:]) != "hello" {
		receive()
	}
	ws.Close()
	l.noMoreGoroutines(before)
}

// A client that opens streams and goes, or opens only halves, leaves nothing.
func TestForwardWrongStreams(t *testing.T) {
	l := newLab(t, nil)
	pod := newPod(t, echoes)
	before := goroutines()
	headers := func(kind, port, id string) http.Header {
		return http.Header{"Streamtype": {kind}, "Port": {port}, "Requestid": {id}}
	}
	for range 3 {
		client := l.spdyClient(l.must(l.PortForward(streaming.Forward{Dial: dialNode})), "portforward.k8s.io")
		port := fmt.Sprint(pod.port)
		wrong := []http.Header{
			headers("data", "0", "1"), headers("data", "65536", "2"), headers("data", "http", "3"), headers("stdout", port, "4"),
			headers("data", port, "5"), headers("data", port, "5"), headers("error", port, "6"),
		}
		for i := range 100 {
			wrong = append(wrong, headers("data", port, fmt.Sprint("many", i)))
		}
		for _, h := range wrong {
			if err := client.open(h); err != nil {
				t.Error(err)
			}
		}
		client.awaitReply()
		client.Close()
	}
	l.noMoreGoroutines(before)
}

// BenchmarkForward is how fast a pod's output reaches Kubernetes' client, and how fast it
// would without the server in between.
func BenchmarkForward(b *testing.B) {
	pod := newPod(b, echoes)
	measure := func(b *testing.B, address string) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "s"); err != nil {
			b.Fatal(err)
		}
		block := make([]byte, 1<<20)
		b.SetBytes(1 << 20)
		for b.Loop() {
			if _, err := io.ReadFull(conn, block); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("direct", func(b *testing.B) { measure(b, pod.Addr().String()) })
	for name := range dialers {
		b.Run(name, func(b *testing.B) {
			l := newLab(b, nil)
			address, _, stop := l.forwardFrom(name, l.must(l.PortForward(streaming.Forward{Dial: dialNode})), pod.port)
			defer stop()
			measure(b, address)
		})
	}
}
