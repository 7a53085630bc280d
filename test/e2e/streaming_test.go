package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// transports are what Kubernetes' clients speak.
var transports = map[string]func(address string) (remotecommand.Executor, error){
	"SPDY": func(address string) (remotecommand.Executor, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, u)
	},
	"WebSocket": func(address string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, address)
	},
}

// stream runs a client to its end and returns its exit code.
func stream(ctx context.Context, transport, address string, options remotecommand.StreamOptions) (code int, err error) {
	executor, err := transports[transport](address)
	if err != nil {
		return 0, err
	}
	err = executor.StreamWithContext(ctx, options)
	var exit clientexec.CodeExitError
	if errors.As(err, &exit) {
		return exit.Code, nil
	}
	return 0, err
}

// execURL asks for an exec with the streams that the options have.
func execURL(h *Harness, id string, o remotecommand.StreamOptions, command ...string) string {
	h.t.Helper()
	answer, err := h.Runtime.Exec(h.Context(), &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: command, Tty: o.Tty, Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return answer.Url
}

// attachURL asks for an attachment with the streams that the options have.
func attachURL(h *Harness, id string, o remotecommand.StreamOptions) string {
	h.t.Helper()
	answer, err := h.Runtime.Attach(h.Context(), &runtimeapi.AttachRequest{
		ContainerId: id, Tty: o.Tty, Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return answer.Url
}

// terminal is a client's, whose size the test says.
type terminal chan remotecommand.TerminalSize

func (t terminal) Next() *remotecommand.TerminalSize {
	size, ok := <-t
	if !ok {
		return nil
	}
	return &size
}

// screen is what a client has got so far.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// shows waits until a text is on the screen.
func (s *screen) shows(h *Harness, text string) {
	h.t.Helper()
	h.Eventually(fmt.Sprintf("%q is on the screen", text), func() bool { return strings.Contains(s.String(), text) })
}

func TestStreamingExec(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("exec"))
	config := h.ContainerConfig("c", "sh", "-c", "while true; do sleep 100000; done")
	config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("red")}}
	id := pod.Run(config)
	for transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := h.In(t)
			t.Run("streams and code", func(t *testing.T) { streamsAndCode(h.In(t), transport, id) })
			t.Run("input and its end, cri-o#3175", func(t *testing.T) { streamedInput(h.In(t), transport, id) })
			t.Run("input that nobody reads, containerd#13934", func(t *testing.T) { unreadInput(h.In(t), transport, id) })
			t.Run("much output, kubernetes#124571", func(t *testing.T) { muchOutput(h.In(t), transport, id) })
			t.Run("child that holds the streams, kubernetes#92057", func(t *testing.T) { childHoldsStreams(h.In(t), transport, id) })
			t.Run("terminal", func(t *testing.T) { execTerminal(h.In(t), transport, id) })
			t.Run("client goes", func(t *testing.T) { execClientGoes(h.In(t), transport, id) })
			t.Run("no such program", func(t *testing.T) { noSuchProgram(h.In(t), transport, id) })
		})
	}
	t.Run("daemon is killed", func(t *testing.T) { execDaemonDies(h.In(t), id, true) })
	t.Run("daemon ends", func(t *testing.T) { execDaemonDies(h.In(t), id, false) })
	t.Run("events", func(t *testing.T) {
		h := h.In(t)
		for _, word := range []string{"ExecRequested", "ExecEnded", "ExecFailed", "attended", "tty", "the client has gone"} {
			if events := h.Stele("events", "-o", "wide", id); !strings.Contains(strings.ToLower(events), strings.ToLower(word)) {
				t.Errorf("%s is not among the events:\n%s", word, events)
			}
		}
	})
	t.Run("refused", func(t *testing.T) { streamsRefused(h.In(t), pod, id) })
}

func streamsAndCode(h *Harness, transport, id string) {
	var stdout, stderr bytes.Buffer
	o := remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}
	code, err := stream(h.Context(), transport, execURL(h, id, o, "sh", "-c", "echo $COLOUR; echo bad >&2; test -t 1 || exit 7"), o)
	if code != 7 || err != nil || stdout.String() != "red\n" || stderr.String() != "bad\n" {
		h.t.Errorf("%d, %v, %q, %q", code, err, stdout.String(), stderr.String())
	}
	// One stream alone.
	stdout.Reset()
	o = remotecommand.StreamOptions{Stdout: &stdout}
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "sh", "-c", "echo out; echo lost >&2"), o); code != 0 || err != nil || stdout.String() != "out\n" {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
}

func streamedInput(h *Harness, transport, id string) {
	const size = 20 << 20
	var stdout bytes.Buffer
	o := remotecommand.StreamOptions{Stdin: io.LimitReader(zeros{}, size), Stdout: &stdout}
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "wc", "-c"), o); code != 0 || err != nil || strings.TrimSpace(stdout.String()) != fmt.Sprint(size) {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
}

func unreadInput(h *Harness, transport, id string) {
	var stdout bytes.Buffer
	o := remotecommand.StreamOptions{Stdin: io.LimitReader(zeros{}, 20<<20), Stdout: &stdout}
	// Some of it is read, then the command ends, with output.
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "sh", "-c", "head -c 5 >/dev/null; echo five; exit 5"), o); code != 5 || err != nil || stdout.String() != "five\n" {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
	// It closes its input, and goes on.
	stdout.Reset()
	o.Stdin = io.LimitReader(zeros{}, 20<<20)
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "sh", "-c", "exec <&-; sleep 0.2; echo later"), o); code != 0 || err != nil || stdout.String() != "later\n" {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
}

func muchOutput(h *Harness, transport, id string) {
	const size = 8 << 20
	stdout := &lazyWriter{}
	o := remotecommand.StreamOptions{Stdout: stdout}
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "head", "-c", fmt.Sprint(size), "/dev/zero"), o); code != 0 || err != nil || stdout.size != size {
		h.t.Errorf("%d, %v, %d bytes of %d", code, err, stdout.size, size)
	}
}

func childHoldsStreams(h *Harness, transport, id string) {
	var stdout, stderr bytes.Buffer
	o := remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}
	if code, err := stream(h.Context(), transport, execURL(h, id, o, "sh", "-c", "sleep 5432 & echo begun; exit 3"), o); code != 3 || err != nil || stdout.String() != "begun\n" {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
	h.Exec(id, "killall", "sleep")
}

func execTerminal(h *Harness, transport, id string) {
	stdin, typed := io.Pipe()
	sizes, stdout := make(terminal, 1), &screen{}
	sizes <- remotecommand.TerminalSize{Width: 90, Height: 30}
	o := remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Tty: true, TerminalSizeQueue: sizes}
	defer close(sizes)
	ended := make(chan error, 1)
	var code int
	go func() {
		var err error
		code, err = stream(h.Context(), transport, execURL(h, id, o, "sh"), o)
		ended <- err
	}()
	for _, step := range []struct{ types, shows string }{
		{"echo term=$TERM; tty\n", "term=xterm"}, {"stty size\n", "30 90"},
	} {
		_, _ = io.WriteString(typed, step.types)
		stdout.shows(h, step.shows)
	}
	sizes <- remotecommand.TerminalSize{Width: 133, Height: 44}
	h.Eventually("the terminal has the new size", func() bool {
		_, _ = io.WriteString(typed, "stty size\n")
		return strings.Contains(stdout.String(), "44 133")
	})
	_, _ = io.WriteString(typed, "exit 9\n")
	if err := <-ended; err != nil || code != 9 {
		h.t.Errorf("%d, %v, %q", code, err, stdout.String())
	}
}

func execClientGoes(h *Harness, transport, id string) {
	for name, stdin := range map[string]io.Reader{"without input": blocked(h.t), "with input that is not read": zeros{}} {
		stdout := &screen{}
		o := remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout}
		address, cut := relay(h, execURL(h, id, o, "sh", "-c", "echo begun; sleep 6543 & sleep 6543"))
		left := make(chan struct{})
		go func() {
			defer close(left)
			_, _ = stream(h.Context(), transport, address, o)
		}()
		stdout.shows(h, "begun")
		cut()
		h.Eventually(name+": the command and its children are gone", func() bool { return !strings.Contains(h.Exec(id, "ps"), "6543") })
		<-left
	}
}

// relay returns a URL that leads to the same server by another connection, which cut
// closes, as the kernel does for a client that was killed.
func relay(h *Harness, address string) (relayed string, cut func()) {
	h.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		h.t.Fatal(err)
	}
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
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
			h.t.Error(err)
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
	h.t.Cleanup(cut)
	return u.String(), cut
}

func noSuchProgram(h *Harness, transport, id string) {
	var stdout, stderr bytes.Buffer
	o := remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}
	_, err := stream(h.Context(), transport, execURL(h, id, o, "/no/such/program"), o)
	if err == nil || !strings.Contains(err.Error(), "no such file") || stdout.Len()+stderr.Len() > 0 {
		h.t.Errorf("%v, %q, %q", err, stdout.String(), stderr.String())
	}
}

// A daemon that goes leaves no command behind, and the container runs on.
func execDaemonDies(h *Harness, id string, killed bool) {
	stdout := &screen{}
	o := remotecommand.StreamOptions{Stdin: blocked(h.t), Stdout: stdout}
	address := execURL(h, id, o, "sh", "-c", "echo begun; sleep 7654 & sleep 7654")
	left := make(chan error, 1)
	go func() {
		_, err := stream(h.Context(), "SPDY", address, o)
		left <- err
	}()
	stdout.shows(h, "begun")
	if killed {
		h.Daemon.Kill9()
	} else {
		h.Daemon.Stop()
	}
	if err := <-left; err == nil && !killed {
		h.t.Error("the client learned nothing of the daemon's end")
	}
	h.Daemon.Start()
	h.Eventually("the command and its children are gone", func() bool { return !strings.Contains(h.Exec(id, "ps"), "7654") })
}

func streamsRefused(h *Harness, pod *Pod, id string) {
	ended := pod.Run(h.ContainerConfig("ended", "true"))
	h.WaitExit(ended)
	for _, c := range []struct {
		r    *runtimeapi.ExecRequest
		code codes.Code
		word string
	}{
		{&runtimeapi.ExecRequest{ContainerId: unknownID, Cmd: []string{"true"}, Stdout: true}, codes.NotFound, "container_id"},
		{&runtimeapi.ExecRequest{Cmd: []string{"true"}, Stdout: true}, codes.InvalidArgument, "container_id"},
		{&runtimeapi.ExecRequest{ContainerId: ended, Cmd: []string{"true"}, Stdout: true}, codes.FailedPrecondition, "container_id"},
		{&runtimeapi.ExecRequest{ContainerId: id, Stdout: true}, codes.InvalidArgument, "cmd"},
		{&runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"a\x00b"}, Stdout: true}, codes.InvalidArgument, "cmd"},
		{&runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"true"}}, codes.InvalidArgument, "stdin, stdout, stderr"},
		{&runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Tty: true, Stderr: true}, codes.InvalidArgument, "stderr"},
	} {
		_, err := h.Runtime.Exec(h.Context(), c.r)
		h.Refused(err, c.code, c.word)
	}
	for _, c := range []struct {
		r    *runtimeapi.AttachRequest
		code codes.Code
		word string
	}{
		{&runtimeapi.AttachRequest{ContainerId: unknownID, Stdout: true}, codes.NotFound, "container_id"},
		{&runtimeapi.AttachRequest{ContainerId: ended, Stdout: true}, codes.FailedPrecondition, "container_id"},
		{&runtimeapi.AttachRequest{ContainerId: id}, codes.InvalidArgument, "stdin, stdout, stderr"},
		{&runtimeapi.AttachRequest{ContainerId: id, Stdout: true, Tty: true}, codes.InvalidArgument, "tty"},
	} {
		_, err := h.Runtime.Attach(h.Context(), c.r)
		h.Refused(err, c.code, c.word)
	}
}

func TestStreamingAttach(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("attach"))
	for transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := h.In(t)
			t.Run("many clients", func(t *testing.T) { attachMany(h.In(t), pod, transport) })
			t.Run("terminal", func(t *testing.T) { attachTerminal(h.In(t), pod, transport) })
			t.Run("input once", func(t *testing.T) { attachOnce(h.In(t), pod, transport) })
		})
	}
}

// Every client gets what is written from now on, and nothing that was there before; one
// goes, and the others and the container go on; the end of the container is all clients'.
func attachMany(h *Harness, pod *Pod, transport string) {
	config := h.ContainerConfig("many-"+transport, "sh", "-c", `echo before; while read word; do echo "$word" | tee /dev/stderr; test "$word" = end && exit 4; done`)
	config.Stdin = true
	id := pod.Run(config)
	h.Eventually("the container has written", func() bool { return len(pod.Log(config)) > 0 })
	type attached struct {
		stdin          *io.PipeWriter
		stdout, stderr *screen
		leave          context.CancelFunc
		ended          chan error
	}
	var clients []*attached
	for range 3 {
		read, write := io.Pipe()
		a := &attached{stdin: write, stdout: &screen{}, stderr: &screen{}, ended: make(chan error, 1)}
		var ctx context.Context
		ctx, a.leave = context.WithCancel(h.Context())
		o := remotecommand.StreamOptions{Stdin: read, Stdout: a.stdout, Stderr: a.stderr}
		address := attachURL(h, id, o)
		go func() {
			_, err := stream(ctx, transport, address, o)
			a.ended <- err
		}()
		clients = append(clients, a)
	}
	// Who types what, until all have seen it.
	say := func(from int, word string, to ...int) {
		_, _ = io.WriteString(clients[from].stdin, word+"\n")
		for _, i := range to {
			clients[i].stdout.shows(h, word)
			clients[i].stderr.shows(h, word)
		}
	}
	for i := range clients {
		say(i, fmt.Sprint("hello", i), i)
	}
	say(0, "all", 0, 1, 2)
	clients[1].leave()
	<-clients[1].ended
	say(2, "rest", 0, 2)
	say(0, "end", 0, 2)
	for _, i := range []int{0, 2} {
		if err := <-clients[i].ended; err != nil {
			h.t.Errorf("client %d: %v", i, err)
		}
		if got := clients[i].stdout.String(); strings.Contains(got, "before") || strings.Count(got, "all") != 1 {
			h.t.Errorf("client %d has %q", i, got)
		}
		clients[i].stdin.Close()
	}
	if code := h.WaitExit(id).ExitCode; code != 4 {
		h.t.Errorf("the container ended with %d", code)
	}
}

func attachTerminal(h *Harness, pod *Pod, transport string) {
	config := h.ContainerConfig("terminal-"+transport, "sh")
	config.Stdin, config.Tty = true, true
	id := pod.Run(config)
	read, write := io.Pipe()
	sizes, stdout := make(terminal, 1), &screen{}
	defer close(sizes)
	o := remotecommand.StreamOptions{Stdin: read, Stdout: stdout, Tty: true, TerminalSizeQueue: sizes}
	ctx, leave := context.WithCancel(h.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = stream(ctx, transport, attachURL(h, id, o), o)
	}()
	for _, size := range []remotecommand.TerminalSize{{Width: 91, Height: 31}, {Width: 134, Height: 45}} {
		sizes <- size
		h.Eventually("the terminal has the size", func() bool {
			_, _ = io.WriteString(write, "stty size\n")
			return strings.Contains(stdout.String(), fmt.Sprintf("%d %d", size.Height, size.Width))
		})
	}
	leave()
	<-ended
	if state := h.ContainerStatus(id).State; state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		h.t.Errorf("the container is %v after its client went", state)
	}
	h.StopContainer(id, 0)
}

// With stdin_once the first client's end of input is the container's (cri-o#3175).
func attachOnce(h *Harness, pod *Pod, transport string) {
	config := h.ContainerConfig("once-"+transport, "sh", "-c", "wc -c; exit 6")
	config.Stdin, config.StdinOnce = true, true
	id := pod.Run(config)
	var stdout bytes.Buffer
	o := remotecommand.StreamOptions{Stdin: io.LimitReader(zeros{}, 1<<20), Stdout: &stdout}
	if _, err := stream(h.Context(), transport, attachURL(h, id, o), o); err != nil || strings.TrimSpace(stdout.String()) != fmt.Sprint(1<<20) {
		h.t.Errorf("%v, %q", err, stdout.String())
	}
	if code := h.WaitExit(id).ExitCode; code != 6 {
		h.t.Errorf("the container ended with %d", code)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// blocked is input that never comes.
func blocked(t testing.TB) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r
}

// lazyWriter takes its time.
type lazyWriter struct{ size int }

func (w *lazyWriter) Write(p []byte) (int, error) {
	for range 50 {
		runtime.Gosched()
	}
	w.size += len(p)
	return len(p), nil
}
