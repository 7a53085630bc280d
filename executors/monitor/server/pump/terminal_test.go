package pump

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTerminal returns a master, non-blocking, and the path of its slave, which is raw.
func newTerminal(t *testing.T) (master int, slave string) {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	mode, err := unix.IoctlGetTermios(master, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(master, unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", number)
}

func openSlave(t *testing.T, path string) *os.File {
	t.Helper()
	slave, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return slave
}

func say(t *testing.T, to *os.File, text string) {
	t.Helper()
	if _, err := to.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// A terminal does not end as long as its container lives: before it is opened, and
// after it was closed, it can be opened again.
func TestTerminal(t *testing.T) {
	o := startWith(t, Pipes{Stdout: -1, Stderr: -1})
	master, path := newTerminal(t)
	if err := o.Offer(Pipes{Stdout: master, Stderr: -1}); err != nil {
		t.Fatal(err)
	}
	read, gone, _ := o.newClient()
	defer unix.Close(read)
	o.sleeps()
	slave := openSlave(t, path)
	say(t, slave, "one\n")
	slave.Close()
	o.eventually("stdout F one\n")
	o.sleeps()
	slave = openSlave(t, path)
	say(t, slave, "two\nthe la")
	o.eventually("stdout F one\nstdout F two\nstdout P the la\n")
	say(t, slave, "st")
	slave.Close()
	o.drained()
	if why := o.told(gone); why != nil {
		t.Errorf("the end of the client is %v", why)
	}
	o.eventually("stdout F one\nstdout F two\nstdout P the la\nstdout P st\n")
}

// Control packets are not output, and do not disturb the order of output.
func TestTerminalIsFlushed(t *testing.T) {
	master, path := newTerminal(t)
	o := startWith(t, Pipes{Stdout: master, Stderr: -1})
	o.hold(time.Hour)
	slave := openSlave(t, path)
	flush := func() {
		t.Helper()
		if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	o.sleeps()
	say(t, slave, "one\n")
	o.eventually("stdout F one\n")
	for range 100 {
		flush()
		say(t, slave, ".")
	}
	flush()
	say(t, slave, "\n")
	slave.Close()
	o.drained()
	o.eventually("stdout F one\nstdout F " + strings.Repeat(".", 100) + "\n")
}

// A terminal that others have open when the container has exited ends when they close
// it.
func TestTerminalOfOthers(t *testing.T) {
	master, path := newTerminal(t)
	o := startWith(t, Pipes{Stdout: master, Stderr: -1})
	read, gone, _ := o.newClient()
	defer unix.Close(read)
	slave := openSlave(t, path)
	say(t, slave, "one\n")
	o.drained()
	say(t, slave, "two\n")
	slave.Close()
	if why := o.told(gone); why != nil {
		t.Errorf("the end of the client is %v", why)
	}
	o.eventually("stdout F one\nstdout F two\n")
}

// sleeps makes sure that the pump does not spin: an event of the terminal does not
// recur.
func (o *output) sleeps() {
	o.t.Helper()
	heard := true
	for end := time.Now().Add(patience); heard && time.Now().Before(end); time.Sleep(time.Millisecond) {
		err := o.pump.loop.call(func() {
			events := make([]unix.EpollEvent, 8)
			n, err := unix.EpollWait(o.pump.loop.epoll, events, 0)
			if err != nil {
				return
			}
			heard = slices.ContainsFunc(events[:n], func(e unix.EpollEvent) bool { return e.Fd != int32(o.pump.loop.wake) })
		})
		if err != nil {
			o.t.Fatal(err)
		}
	}
	if heard {
		o.t.Error("the pump hears of the terminal again and again")
	}
}
