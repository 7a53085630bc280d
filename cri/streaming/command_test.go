package streaming_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// echo answers its input, and ends with the code that is in it.
func echo(halfClose bool) func(context.Context, streams.Stdio) (int, error) {
	return func(_ context.Context, s streams.Stdio) (code int, err error) {
		input := make([]byte, 5)
		if halfClose {
			input, err = io.ReadAll(s.Stdin)
		} else {
			_, err = io.ReadFull(s.Stdin, input)
		}
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(s.Stdout, "got %s", input)
		fmt.Fprintf(s.Stderr, "no %s", input)
		_, err = fmt.Sscanf(string(input), "code%d", &code)
		return code, err
	}
}

// Every transport has all streams, and codes or errors.
func TestCommand(t *testing.T) {
	for i, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			l := newLab(t, nil)
			inputs := []string{"code0", "code3", "wrong"}
			if tr.name == firstVersion {
				inputs = inputs[:1]
			}
			for _, input := range inputs {
				u := l.must(l.Exec(streaming.Command{Stdin: true, Stdout: true, Stderr: true, Run: echo(tr.halfClose)}))
				var stdout, stderr bytes.Buffer
				err := l.stream(t.Context(), i, u, remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &stdout, Stderr: &stderr})
				if stdout.String() != "got "+input || stderr.String() != "no "+input {
					t.Errorf("%s: %q and %q", input, stdout.String(), stderr.String())
				}
				var code exec.CodeExitError
				switch {
				case input == "code0" && err != nil,
					input == "code3" && tr.codes && (!errors.As(err, &code) || code.Code != 3),
					input == "code3" && !tr.codes && (err == nil || !strings.Contains(err.Error(), "non-zero exit code: 3")),
					input == "wrong" && (err == nil || !strings.Contains(err.Error(), "input does not match format")):
					t.Errorf("%s: %v", input, err)
				}
			}
		})
	}
}

// sizes are a client's terminal.
type sizes struct {
	next chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.next
	if !ok {
		return nil
	}
	return &size
}

func TestTerminal(t *testing.T) {
	for i, tr := range transports {
		if tr.name == firstVersion || tr.name == "SPDY v2" {
			continue // they do not send sizes
		}
		t.Run(tr.name, func(t *testing.T) {
			l := newLab(t, nil)
			u := l.must(l.Attach(streaming.Command{Stdin: true, Stdout: true, TTY: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
				if s.Terminal != streams.Always || s.Stderr != nil {
					t.Errorf("%+v", s)
				}
				for range 2 {
					size := <-s.Sizes
					fmt.Fprintf(s.Stdout, "%d x %d\n", size.Width, size.Height)
				}
				return 0, nil
			}}))
			terminal := sizes{make(chan remotecommand.TerminalSize, 2)}
			terminal.next <- remotecommand.TerminalSize{Width: 80, Height: 25}
			terminal.next <- remotecommand.TerminalSize{Width: 132, Height: 43}
			defer close(terminal.next)
			var stdout bytes.Buffer
			err := l.stream(t.Context(), i, u, remotecommand.StreamOptions{Stdin: never(t), Stdout: &stdout, Tty: true, TerminalSizeQueue: terminal})
			if err != nil || stdout.String() != "80 x 25\n132 x 43\n" {
				t.Errorf("%q, %v", stdout.String(), err)
			}
		})
	}
}

// A client that goes away ends its command, whatever the command and the client do, and
// nothing is left (CVE-2022-23471, CVE-2025-64329).
func TestClientGoesCVE2022_23471CVE2025_64329(t *testing.T) {
	l := newLab(t, nil)
	before := goroutines()
	for i, tr := range transports {
		for name, input := range map[string]io.Reader{"no input": never(t), "endless input that nobody reads": endless{}} {
			began, ended := make(chan struct{}), make(chan error, 1)
			u := l.must(l.Exec(streaming.Command{Stdin: true, Stdout: true, TTY: true, Run: func(ctx context.Context, s streams.Stdio) (int, error) {
				close(began)
				<-ctx.Done()
				ended <- context.Cause(ctx)
				return 0, ctx.Err()
			}}))
			// Kubernetes' SPDY client does not close its connection before a write has ended that
			// waits for a reader.
			cut := func() {}
			if input == (endless{}) {
				u, cut = l.relay(u)
			}
			ctx, leave := context.WithCancel(t.Context())
			terminal := sizes{make(chan remotecommand.TerminalSize, 1)}
			terminal.next <- remotecommand.TerminalSize{}
			left := make(chan error, 1)
			go func() {
				left <- l.stream(ctx, i, u, remotecommand.StreamOptions{Stdin: input, Stdout: io.Discard, Tty: true, TerminalSizeQueue: terminal})
			}()
			<-began
			leave()
			cut()
			if err := <-ended; !errors.Is(err, streaming.ErrGone) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s: the command ended with %v", tr.name, name, err)
			}
			if err := <-left; err == nil {
				t.Errorf("%s, %s: the client got no error", tr.name, name)
			}
			close(terminal.next)
		}
	}
	l.noMoreGoroutines(before)
}

// A slow client gets all output before it learns the end, even if it has sent what nobody
// reads (kubernetes#124571, containerd#13934).
func TestSlowClientGetsEverything(t *testing.T) {
	const size = 8 << 20
	for i, tr := range transports {
		l := newLab(t, nil)
		u := l.must(l.Exec(streaming.Command{Stdin: true, Stdout: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
			_, err := s.Stdout.Write(make([]byte, size))
			s.Stdin.Close()
			return 0, err
		}}))
		stdout := &slowWriter{}
		err := l.stream(t.Context(), i, u, remotecommand.StreamOptions{Stdin: io.LimitReader(endless{}, 64<<20), Stdout: stdout})
		if err != nil || stdout.size != size {
			t.Errorf("%s: %d bytes of %d, %v", tr.name, stdout.size, size, err)
		}
	}
}

// slowWriter takes little at a time, and lets others run in between.
type slowWriter struct{ size int }

func (w *slowWriter) Write(p []byte) (int, error) {
	for range 50 {
		runtime.Gosched()
	}
	w.size += len(p)
	return len(p), nil
}

// Large input arrives as a whole, and its end.
func TestLargeInput(t *testing.T) {
	const size = 32 << 20
	for i, tr := range transports {
		if !tr.halfClose {
			continue
		}
		l := newLab(t, nil)
		u := l.must(l.Exec(streaming.Command{Stdin: true, Stdout: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
			n, err := io.Copy(io.Discard, s.Stdin)
			fmt.Fprint(s.Stdout, n)
			return 0, err
		}}))
		var stdout bytes.Buffer
		err := l.stream(t.Context(), i, u, remotecommand.StreamOptions{Stdin: io.LimitReader(endless{}, size), Stdout: &stdout})
		if err != nil || stdout.String() != fmt.Sprint(size) {
			t.Errorf("%s: %s bytes of %d, %v", tr.name, stdout.String(), size, err)
		}
	}
}

// A client that opens other streams than it may is refused, and leaves nothing.
func TestWrongStreams(t *testing.T) {
	l := newLab(t, nil)
	before := goroutines()
	for name, types := range map[string][]string{
		"unknown":             {"error", "stderr"},
		"twice":               {"error", "error"},
		"more than it asked":  {"error", "stdout", "stdout", "stdin", "resize", "x", "y", "z"},
		"none, and goes away": {},
	} {
		ran := make(chan struct{}, 1)
		client := l.spdyClient(l.must(l.Exec(streaming.Command{Stdout: true, Run: func(ctx context.Context, _ streams.Stdio) (int, error) {
			ran <- struct{}{}
			<-ctx.Done()
			return 0, nil
		}})), "v4.channel.k8s.io")
		for i, kind := range types {
			if err := client.open(http.Header{"Streamtype": {kind}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if len(types) > 2 && i < 2 {
				client.awaitReply() // what it may open is there first
			}
		}
		switch {
		case len(types) > 2:
			<-ran
		case len(types) > 0:
			if _, err := io.Copy(io.Discard, client.Conn); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		client.Close()
		if len(types) <= 2 && len(ran) > 0 {
			t.Errorf("%s: the command ran", name)
		}
	}
	l.noMoreGoroutines(before)
}

// A client that ends its session by the protocol, or breaks that, ends its command or port-forward,
// even if it keeps its connection: Kubernetes' does so for ever if it ends while a stream is being
// created.
func TestSessionEnds(t *testing.T) {
	l := newLab(t, nil)
	exec := func(run func(ctx context.Context)) (string, error) {
		return l.Exec(streaming.Command{Stdout: true, Run: func(ctx context.Context, _ streams.Stdio) (int, error) {
			run(ctx)
			return 0, nil
		}})
	}
	forward := func(run func(ctx context.Context)) (string, error) {
		return l.PortForward(streaming.Forward{Ports: []uint16{80}, Dial: func(ctx context.Context, _ uint16) (streaming.Port, error) {
			run(ctx)
			return nil, ctx.Err()
		}})
	}
	spdy := func(address string) net.Conn {
		client := l.spdyClient(address, "v4.channel.k8s.io")
		for _, kind := range []string{"error", "stdout"} {
			if err := client.open(http.Header{"Streamtype": {kind}}); err != nil {
				t.Fatal(err)
			}
		}
		return client
	}
	webSocket := func(protocol string) func(address string) net.Conn {
		return func(address string) net.Conn { return l.webSocket(address, protocol) }
	}
	closeFrame := []byte{0x88, 0x80, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		offer   func(run func(ctx context.Context)) (string, error)
		connect func(address string) net.Conn
		frame   []byte
	}{
		"GOAWAY":                       {exec, spdy, []byte{0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}},
		"a frame that is too long":     {exec, spdy, []byte{0, 0, 0, 1, 0, 0x20, 0, 0}},
		"Close":                        {exec, webSocket("v4.channel.k8s.io"), closeFrame},
		"Close of a port-forward":      {forward, webSocket("v4.channel.k8s.io"), closeFrame},
		"a message that is too long":   {exec, webSocket("v4.channel.k8s.io"), []byte{0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0}},
		"a message that is not masked": {exec, webSocket("v4.channel.k8s.io"), []byte{0x82, 1, 0}},
		"the end of no channel":        {exec, webSocket("v5.channel.k8s.io"), []byte{0x82, 0x82, 0, 0, 0, 0, 255, 9}},
	} {
		ran, ended := make(chan struct{}), make(chan error, 1)
		client := c.connect(l.must(c.offer(func(ctx context.Context) {
			close(ran)
			<-ctx.Done()
			ended <- context.Cause(ctx)
		})))
		<-ran
		if _, err := client.Write(c.frame); err != nil {
			t.Fatal(err)
		}
		// A client that closes its connection, or does not in time, shows another cause.
		if err := <-ended; !errors.Is(err, streaming.ErrGone) || !strings.Contains(err.Error(), "session has ended") {
			t.Errorf("%s: it ended with %v", name, err)
		}
	}
}

// End tells clients, and ends their commands.
func TestEnd(t *testing.T) {
	l := newLab(t, nil)
	for i, tr := range transports {
		if tr.name == firstVersion {
			continue
		}
		l := newLab(t, nil)
		began := make(chan struct{})
		u := l.must(l.Exec(streaming.Command{Stdout: true, Run: func(ctx context.Context, _ streams.Stdio) (int, error) {
			close(began)
			<-ctx.Done()
			return 0, errors.New("the daemon is ending")
		}}))
		left := make(chan error, 1)
		go func() {
			left <- l.stream(context.Background(), i, u, remotecommand.StreamOptions{Stdout: io.Discard})
		}()
		<-began
		l.End(t.Context())
		if err := <-left; err == nil || !strings.Contains(err.Error(), "the daemon is ending") {
			t.Errorf("%s: the client got %v", tr.name, err)
		}
		if _, err := l.Exec(streaming.Command{}); !errors.Is(err, streaming.ErrEnded) {
			t.Errorf("a URL after the end: %v", err)
		}
	}
	l.End(t.Context())
	l.End(t.Context())
}

// A panic ends its session alone, and the client learns it.
func TestPanic(t *testing.T) {
	l := newLab(t, nil)
	u := l.must(l.Exec(streaming.Command{Stdout: true, Run: func(context.Context, streams.Stdio) (int, error) { panic("oh") }}))
	if err := l.stream(t.Context(), 0, u, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("the client got %v", err)
	}
	if !strings.Contains(l.log.String(), "panic=oh") {
		t.Errorf("the log has nothing of it: %s", l.log)
	}
	l.log.mu.Lock()
	l.log.text.Reset()
	l.log.mu.Unlock()
}

// A URL is good once, and only for its kind. Nothing of it is logged.
func TestURLs(t *testing.T) {
	l := newLab(t, nil)
	offer := func() string {
		return l.must(l.Exec(streaming.Command{Stdout: true, Run: func(context.Context, streams.Stdio) (int, error) { return 0, nil }}))
	}
	u := offer()
	if other := offer(); other == u {
		t.Error("two URLs are equal")
	}
	if err := l.stream(t.Context(), 0, u, remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
		t.Error(err)
	}
	get := func(u string) int {
		t.Helper()
		answer, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	plain := offer()
	for _, c := range []struct {
		why, url string
		want     int
	}{
		{"used", u, 404},
		{"of another kind", strings.Replace(offer(), "/exec/", "/attach/", 1), 404},
		{"unknown", plain[:len(plain)-1] + "!", 404},
		{"with more to it", plain + "/x", 404},
		{"without a token", plain[:strings.LastIndex(plain, "/")], 404},
		{"not upgraded", plain, 400},
		{"used up by that", plain, 404},
	} {
		if got := get(c.url); got != c.want {
			t.Errorf("%s: %d, want %d", c.why, got, c.want)
		}
	}
	for _, u := range []string{u, plain} {
		if token := u[strings.LastIndex(u, "/")+1:]; len(token) < 22 || strings.Contains(l.log.String(), token) {
			t.Errorf("the token %s is short, or was logged:\n%s", token, l.log)
		}
	}
}
