package pump

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// patience bounds how long a test waits for what must happen.
const patience = time.Minute

// output is a container's output with the writing end of its stdout.
type output struct {
	*Output
	t     testing.TB
	path  string
	write int
}

func newPump(t testing.TB) *Pump {
	t.Helper()
	file, err := redo.Temporary()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := New(slog.Default(), file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t testing.TB, flags int) *output {
	t.Helper()
	pipes, write := newPipes(t, flags)
	o := startWith(t, pipes)
	o.write = write
	return o
}

// startWith starts a pump that reads pipes.
func startWith(t testing.TB, pipes Pipes) *output {
	t.Helper()
	p := newPump(t)
	ran := make(chan error, 1)
	go func() { ran <- p.Run() }()
	t.Cleanup(func() {
		p.Stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := crilog.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	o := &output{t: t, path: path}
	if o.Output, err = p.Attach(pipes, log); err != nil {
		t.Fatal(err)
	}
	return o
}

func newPipes(t testing.TB, flags int) (Pipes, int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK|flags); err != nil {
		t.Fatal(err)
	}
	return Pipes{Stdout: fds[0], Stderr: -1}, fds[1]
}

func (o *output) say(text string) {
	o.t.Helper()
	if n, err := unix.Write(o.write, []byte(text)); err != nil || n != len(text) {
		o.t.Fatalf("wrote %d bytes, %v", n, err)
	}
}

// hold sets how long the beginning of a line is held back.
func (o *output) hold(d time.Duration) {
	o.t.Helper()
	if err := o.pump.loop.call(func() { o.pump.holdTime = d }); err != nil {
		o.t.Fatal(err)
	}
}

func (o *output) drained() {
	o.t.Helper()
	done := make(chan struct{})
	if err := o.Drain(func() { close(done) }); err != nil {
		o.t.Fatal(err)
	}
	<-done
}

// records returns the log without the times.
func (o *output) records() string {
	o.t.Helper()
	data, err := os.ReadFile(o.path)
	if err != nil {
		o.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(line, " ")
		b.WriteString(rest)
	}
	return b.String()
}

func (o *output) eventually(want string) {
	o.t.Helper()
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = o.records(); got == want {
			return
		}
	}
	o.t.Fatalf("the log has %q, want %q", got, want)
}

// A line in pieces is one record, if the pieces follow soon. The end of the output is no
// newline.
func TestPiecesOfALine(t *testing.T) {
	o := start(t, 0)
	o.hold(time.Hour) // "soon" does not depend on the machine
	o.say("one ")
	o.drained()
	o.say("line\n")
	o.eventually("stdout F one line\n")
	o.hold(holdTime)
	o.say("wait")
	o.eventually("stdout F one line\nstdout P wait\n")
	unix.Close(o.write)
	o.drained()
	o.eventually("stdout F one line\nstdout P wait\n")
}

// A container can put its pipe into packet mode, in which a read returns one
// write.
func TestPackets(t *testing.T) {
	o := start(t, unix.O_DIRECT)
	for range 10 {
		o.say("x\n")
	}
	o.drained()
	if got := o.records(); got != strings.Repeat("stdout F x\n", 10) {
		t.Errorf("the log has %q", got)
	}
	unix.Close(o.write)
}

func TestOffer(t *testing.T) {
	o := start(t, 0)
	again, write := newPipes(t, 0)
	if err := o.Offer(again); err != nil {
		t.Fatal(err)
	}
	// This one was closed, since there was one already.
	if _, err := unix.Write(write, []byte("x\n")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a second pipe was taken: %v", err)
	}
	unix.Close(write)
	stderr, write := newPipes(t, 0)
	if err := o.Offer(Pipes{Stdout: -1, Stderr: stderr.Stdout}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(write, []byte("complaint\n")); err != nil {
		t.Fatal(err)
	}
	o.eventually("stderr F complaint\n")
	twins, err := o.Duplicate()
	if err != nil || twins.Stdout < 0 || twins.Stderr < 0 {
		t.Errorf("the duplicates are %v, %v", twins, err)
	}
	twins.Close()
	unix.Close(write)
	o.say("last")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o.eventually("stderr F complaint\nstdout P last\n")
	if _, err := unix.Write(o.write, []byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the pipe is still open: %v", err)
	}
	unix.Close(o.write)
}

func TestStopped(t *testing.T) {
	p := newPump(t)
	go p.Run()
	p.Stop()
	pipes, write := newPipes(t, 0)
	defer unix.Close(write)
	defer pipes.Close()
	if _, err := p.Attach(pipes, nil); !errors.Is(err, ErrStopped) {
		t.Errorf("Attach gave %v", err)
	}
}

// A container can read its own output: the pump finds less than there was, and that is
// no error, which the container could repeat for ever.
func TestContainerReadsItsOutput(t *testing.T) {
	p := newPump(t)
	var log bytes.Buffer
	p.logger = slog.New(slog.NewTextHandler(&log, nil))
	pipes, _ := newPipes(t, 0)
	defer pipes.Close()
	s := &stream{out: &Output{pump: p}, fd: pipes.Stdout}
	if data := s.read(make([]byte, 10)); len(data) > 0 || log.Len() > 0 {
		t.Errorf("from an empty pipe came %q, and it was logged: %s", data, log.String())
	}
}
