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
	case <-time.After(10 * time.Second):
		o.t.Fatal("the end was not told")
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
		t.Errorf("it was told %v", why)
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
		t.Errorf("it was told %v", why)
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
		t.Errorf("it was told %v", why)
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
		t.Errorf("a client that was removed was told %v", why)
	default:
	}
}
