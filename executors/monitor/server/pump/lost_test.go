package pump

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loss is a reported loss.
type loss struct {
	bytes  int64
	reason error
}

// The container continues, whatever happens to its log, and each lost byte is reported.
func TestLosses(t *testing.T) {
	o := start(t, 0)
	losses := make(chan loss, 1000)
	if err := o.NotifyLost(func(bytes int64, reason error) { losses <- loss{bytes, reason} }); err != nil {
		t.Fatal(err)
	}
	// next waits until all losses are reported.
	next := func(want int64) {
		t.Helper()
		for told := int64(0); told < want; {
			select {
			case l := <-losses:
				if l.bytes <= told || l.bytes > want || l.reason == nil {
					t.Fatalf("%d bytes are lost, %v, want more than %d and at most %d", l.bytes, l.reason, told, want)
				}
				told = l.bytes
			case <-time.After(patience):
				t.Fatalf("%d lost bytes were reported, want %d", told, want)
			}
		}
	}
	dir := filepath.Dir(o.path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	o.say("lost\n")
	o.drained()
	next(4)
	// More than a pipe holds, many times.
	for range 100 {
		o.say(strings.Repeat("lost\n", 2000))
		o.drained()
	}
	next(4 + 100*8000)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := o.Reopen(); err != nil {
		t.Fatal(err)
	}
	o.say("kept\n")
	o.eventually("stdout F kept\n")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	o.say("last")
	// The last report comes with the end.
	unix.Close(o.write)
	next(4 + 100*8000 + 4)
	select {
	case l := <-losses:
		t.Errorf("it was reported again: %+v", l)
	default:
	}
}

// The reports are few, however often something is lost.
func TestLossesAreToldAtTimes(t *testing.T) {
	o := start(t, 0)
	words := make(chan loss, 1000)
	if err := o.NotifyLost(func(bytes int64, reason error) { words <- loss{bytes, reason} }); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(o.path)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 500 {
		o.say("lost\n")
		o.drained()
	}
	unix.Close(o.write)
	if err := o.pump.loop.call(func() {}); err != nil {
		t.Fatal(err)
	}
	if n, most := len(words), 2+int(time.Since(began)/lossPause); n == 0 || n > most {
		t.Errorf("there were %d words, want at most %d", n, most)
	}
}
