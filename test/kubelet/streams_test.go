package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	clientexec "k8s.io/client-go/util/exec"
)

// transport is how kubectl speaks to the kubelet.
type transport string

const (
	spdy      transport = "SPDY"
	websocket transport = "WebSocket"
)

func (tr transport) executor(u *url.URL) (remotecommand.Executor, error) {
	if tr == websocket {
		return remotecommand.NewWebSocketExecutor(restConfig(), http.MethodGet, u.String())
	}
	return remotecommand.NewSPDYExecutor(restConfig(), http.MethodPost, u)
}

// stream runs a command in a container ("exec"), or attaches to it ("attach").
func (p *pod) stream(tr transport, verb, container string, command []string, options remotecommand.StreamOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	query := url.Values{"command": command}
	for name, on := range map[string]bool{
		"input": options.Stdin != nil, "output": options.Stdout != nil, "error": options.Stderr != nil, "tty": options.Tty,
	} {
		if on {
			query.Set(name, "1")
		}
	}
	u, err := url.Parse(kubeletURL + "/" + verb + "/" + namespace + "/" + p.name + "/" + container + "?" + query.Encode())
	if err != nil {
		return err
	}
	executor, err := tr.executor(u)
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, options)
}

// execWith runs a command with an input, none if empty.
func (p *pod) execWith(tr transport, container, stdin string, command ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	options := remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}
	if stdin != "" {
		options.Stdin = io.Reader(strings.NewReader(stdin))
	}
	err = p.stream(tr, "exec", container, command, options)
	return out.String(), errs.String(), err
}

func (tr transport) exec(n *node) {
	p := n.run(manifest("exec-"+tr.name(), n.shell("main", "while :; do sleep 1; done")))
	stdout, stderr, err := p.execWith(tr, "main", "from stdin", "sh", "-c", "cat; echo to stderr >&2; exit 9")
	same(n.t, "stdout", stdout, "from stdin")
	same(n.t, "stderr", stderr, "to stderr\n")
	var exit clientexec.CodeExitError
	if !errors.As(err, &exit) || exit.Code != 9 {
		n.t.Errorf("got %v, want exit code 9", err)
	}
	if _, _, err := p.execWith(tr, "main", "", "true"); err != nil {
		n.t.Errorf("true: %v", err)
	}
	if _, _, err := p.execWith(tr, "main", "", "/no/such/program"); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		n.t.Errorf("a program that is not there: %v", err)
	}
	// More than any buffer on the way, in both directions at once.
	big := strings.Repeat("0123456789abcde\n", 1<<17)
	if stdout, _, err = p.execWith(tr, "main", big, "cat"); err != nil || stdout != big {
		n.t.Errorf("2 MiB through cat: got %d bytes back, %v", len(stdout), err)
	}
	if err := n.terminal(tr, p, "exec", "main", "sh"); !errors.As(err, &exit) || exit.Code != 6 {
		n.t.Errorf("the terminal's session ended with %v, want exit code 6", err)
	}
}

// terminal speaks to a shell in a terminal, resizes that, and has the shell exit with 6.
func (n *node) terminal(tr transport, p *pod, verb, container string, command ...string) error {
	n.t.Helper()
	in, write := io.Pipe()
	read, out := io.Pipe()
	sizes := make(sizeQueue, 1)
	sizes <- remotecommand.TerminalSize{Width: 81, Height: 23}
	ended := make(chan error, 1)
	go func() {
		ended <- p.stream(tr, verb, container, command, remotecommand.StreamOptions{Stdin: in, Stdout: out, Tty: true, TerminalSizeQueue: sizes})
		out.CloseWithError(io.EOF)
	}()
	lines := bufio.NewScanner(read)
	expect := func(want string) {
		n.t.Helper()
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == want {
				return
			}
		}
		n.t.Errorf("the terminal's session ended before %q: %v", want, lines.Err())
	}
	say := func(line string) {
		n.t.Helper()
		if _, err := io.WriteString(write, line+"\n"); err != nil {
			n.t.Errorf("type %q: %v", line, err)
		}
	}
	// The first size comes on its own way, and may be late.
	say("until [ \"$(stty size)\" = '23 81' ]; do sleep 0.1; done; echo first $((20+3))")
	expect("first 23")
	sizes <- remotecommand.TerminalSize{Width: 132, Height: 43}
	say("until [ \"$(stty size)\" = '43 132' ]; do sleep 0.1; done; echo second $((40+3))")
	expect("second 43")
	say("exit 6")
	go func() { _, _ = io.Copy(io.Discard, read) }()
	err := <-ended
	close(sizes)
	_ = write.Close()
	return err
}

// sizeQueue gives the sizes of a terminal.
type sizeQueue chan remotecommand.TerminalSize

func (q sizeQueue) Next() *remotecommand.TerminalSize {
	size, ok := <-q
	if !ok {
		return nil
	}
	return &size
}

func (tr transport) attach(n *node) {
	main := n.shell("main", `while read line; do [ "$line" = end ] && exit 8; echo "got $line"; done`)
	main.Stdin, main.StdinOnce = true, true
	terminal := n.shell("terminal", "exec sh")
	terminal.Stdin, terminal.TTY = true, true
	m := manifest("attach-"+tr.name(), main, terminal)
	m.Spec.RestartPolicy = core.RestartPolicyNever
	p := n.run(m)
	// How the shell ended is not the client's to know, but its container's.
	if err := n.terminal(tr, p, "attach", "terminal"); err != nil {
		n.t.Errorf("attach to a terminal: %v", err)
	}
	in, write := io.Pipe()
	read, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- p.stream(tr, "attach", "main", nil, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: io.Discard})
		out.CloseWithError(io.EOF)
	}()
	lines := bufio.NewScanner(read)
	for _, word := range []string{"one", "two"} {
		if _, err := io.WriteString(write, word+"\n"); err != nil {
			n.t.Error(err)
		}
		if lines.Scan(); lines.Text() != "got "+word {
			n.t.Errorf("attached to %q, %v, want %q", lines.Text(), lines.Err(), "got "+word)
		}
	}
	if _, err := io.WriteString(write, "end\n"); err != nil {
		n.t.Error(err)
	}
	if err := <-ended; err != nil {
		n.t.Errorf("attach: %v", err)
	}
	_ = write.Close()
	status := p.wait("has Failed", func(s core.PodStatus) bool { return s.Phase == core.PodFailed })
	same(n.t, "exit code", container(status, "main").State.Terminated.ExitCode, 8)
	same(n.t, "exit code of the terminal's shell", container(status, "terminal").State.Terminated.ExitCode, 6)
	same(n.t, "log", p.log("main", nil), "got one\ngot two\n")
}

func (tr transport) portForward(n *node) {
	p := n.runReady(manifest("forward-"+tr.name(), n.tester("server", "serve", ":8080")))
	dialer, err := tr.dialer(kubeletURL + "/portForward/" + namespace + "/" + p.name)
	if err != nil {
		n.t.Fatal(err)
	}
	stop, isReady := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{"0:8080"}, stop, isReady, io.Discard, io.Discard)
	if err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-isReady:
	case err := <-ended:
		n.t.Fatalf("forward: %v", err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		n.t.Fatal(err)
	}
	for range 3 {
		if body, want := n.web(fmt.Sprintf("127.0.0.1:%d", ports[0].Local)), fmt.Sprintf(`"Hostname":"%s"`, p.name); !strings.Contains(body, want) {
			n.t.Errorf("the forwarded port answers %q, want %s", body, want)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		n.t.Errorf("forward: %v", err)
	}
}

func (tr transport) dialer(address string) (httpstream.Dialer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if tr == websocket {
		return portforward.NewSPDYOverWebsocketDialer(u, restConfig())
	}
	round, upgrader, err := clientspdy.RoundTripperFor(restConfig())
	if err != nil {
		return nil, err
	}
	return clientspdy.NewDialer(upgrader, &http.Client{Transport: round}, http.MethodPost, u), nil
}

func (tr transport) name() string { return strings.ToLower(string(tr)) }
