package pump

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newClient adds a client that gets standard output, and returns its read end and the
// channel of its Gone.
func (o *output) newClient() (read int, gone chan error, remove func()) {
	o.t.Helper()
	pipes, write := newPipes(o.t, 0)
	gone = make(chan error, 1)
	remove, err := o.AddClient(Client{Stdout: write, Stderr: -1, Gone: func(why error) { gone <- why }})
	if err != nil {
		o.t.Fatal(err)
	}
	return pipes.Stdout, gone, remove
}

func (o *output) told(gone chan error) error {
	o.t.Helper()
	select {
	case why := <-gone:
		return why
	case <-time.After(patience):
		o.t.Fatal("the end was not reported")
		return nil
	}
}

// readAll reads until the end.
func readAll(t *testing.T, fd int) []byte {
	t.Helper()
	var all bytes.Buffer
	data := make([]byte, 64<<10)
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := unix.Read(fd, data)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all.Bytes()
		}
		all.Write(data[:n])
	}
}

func TestClientThatHangsUp(t *testing.T) {
	o := start(t, 0)
	read, gone, _ := o.newClient()
	// Nothing is written: the hang-up alone must be noticed.
	unix.Close(read)
	if why := o.told(gone); !errors.Is(why, unix.EPIPE) {
		t.Errorf("its end is %v", why)
	}
	o.say("line\n")
	o.eventually("stdout F line\n")
	unix.Close(o.write)
}

// Everything arrives, however late it is read, if it is not too much.
func TestClientThatIsLate(t *testing.T) {
	o := start(t, 0)
	read, gone, _ := o.newClient()
	defer unix.Close(read)
	var want bytes.Buffer
	for i := range 10 {
		block := bytes.Repeat([]byte{'a' + byte(i)}, 60000)
		want.Write(block)
		o.say(string(block))
		o.drained()
	}
	unix.Close(o.write)
	if got := readAll(t, read); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes of %d arrived", len(got), want.Len())
	}
	if why := o.told(gone); why != nil {
		t.Errorf("its end is %v", why)
	}
}

// However many clients do not read, what waits for them is bounded: those that are
// furthest behind are dropped, and others get everything.
func TestManyClientsThatAreLate(t *testing.T) {
	const many, size = 12, 3_500_000
	outputs := []*output{start(t, 0)}
	pump := outputs[0].pump
	for len(outputs) < many {
		pipes, write := newPipes(t, 0)
		attached, err := pump.Attach(pipes, nil)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, &output{Output: attached, t: t, write: write})
	}
	var reads []int
	var gones []chan error
	for _, o := range outputs {
		read, gone, _ := o.newClient()
		defer unix.Close(read)
		reads, gones = append(reads, read), append(gones, gone)
		for range size / 50_000 {
			o.say(string(make([]byte, 50_000)))
			o.drained()
		}
		pending := 0
		if err := pump.loop.call(func() { pending = pump.pending }); err != nil || pending > maxAllPending {
			t.Fatalf("%d bytes are pending, %v", pending, err)
		}
	}
	dropped := 0
	for i, o := range outputs {
		unix.Close(o.write)
		got := len(readAll(t, reads[i]))
		why := o.told(gones[i])
		if errors.Is(why, ErrSlow) {
			dropped++
		} else if why != nil || got != size {
			t.Errorf("client %d got %d bytes of %d and its end is %v", i, got, size, why)
		}
	}
	if dropped == 0 || dropped > many/2 {
		t.Errorf("%d clients were dropped", dropped)
	}
	if err := pump.loop.call(func() {
		if pump.pending != 0 {
			t.Errorf("%d bytes are pending at the end", pump.pending)
		}
	}); err != nil {
		t.Error(err)
	}
}

func TestClientThatIsTooLate(t *testing.T) {
	o := start(t, 0)
	slow, gone, _ := o.newClient()
	defer unix.Close(slow)
	quick, quickGone, remove := o.newClient()
	for range (maxPending + 200000) / 50000 {
		o.say(string(make([]byte, 50000)))
		o.drained()
		data := make([]byte, 50000)
		for left := len(data); left > 0; {
			n, err := unix.Read(quick, data[:left])
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			left -= max(0, n)
		}
	}
	if why := o.told(gone); !errors.Is(why, ErrSlow) {
		t.Errorf("its end is %v", why)
	}
	remove()
	remove()
	if n, err := unix.Read(quick, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the pipe of a client that was removed gave %d, %v", n, err)
	}
	unix.Close(quick)
	unix.Close(o.write)
	select {
	case why := <-quickGone:
		t.Errorf("Gone was called for a removed client: %v", why)
	default:
	}
}
