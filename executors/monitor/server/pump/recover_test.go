package pump

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

// inode returns that of a pipe.
func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// abandoned returns a world in which a process was killed after a number of steps
// of reading each of two texts, and the pipes are gone.
func abandoned(t *testing.T, steps int) (w *world, gone Gone) {
	w = newWorld(t, fate{})
	gone = Gone{Stdout: inode(t, w.out[0]), Stderr: inode(t, w.err[0])}
	l := w.live(0)
	l.attach()
	w.write(w.err[1], []byte("not yet"))
	l.drain()
	l.left = steps
	if !l.dies(0.5, func() {
		w.write(w.out[1], []byte(strings.Repeat("line\n", 10)+"no end"))
		l.drain()
	}) {
		t.Fatal("it was not killed")
	}
	l.end()
	w.close()
	return w, gone
}

// run runs a pump with a world's leftovers.
func (w *world) run() *Pump {
	w.t.Helper()
	l := w.live(0)
	l.file.Step = nil
	ran := make(chan error, 1)
	go func() { ran <- l.pump.Run() }()
	w.t.Cleanup(func() {
		l.pump.Stop()
		if err := errors.Join(<-ran, l.file.Close()); err != nil {
			w.t.Error(err)
		}
	})
	return l.pump
}

func (w *world) open() *crilog.File {
	w.t.Helper()
	log, err := crilog.Open(w.log(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return log
}

// What was read of pipes that are gone is written.
func TestFinish(t *testing.T) {
	// The steps are those of one flight: before and after each of reading, landed,
	// writing, written and the carry's four.
	for steps := 3; steps <= 12; steps++ {
		w, gone := abandoned(t, steps)
		p := w.run()
		for range 2 {
			if err := p.Finish(gone, w.open()); err != nil {
				t.Fatal(err)
			}
		}
		if dropped, err := p.Settle(); dropped != 0 || err != nil {
			t.Errorf("after %d steps: %d bytes were dropped, %v", steps, dropped, err)
		}
		o := &output{t: t, path: filepath.Join(w.dir, "logs", "0.log")}
		out, complaint := strings.Repeat("stdout F line\n", 10)+"stdout P no end\n", "stderr P not yet\n"
		if got := o.records(); got != out+complaint && got != complaint+out && !strings.Contains(got, complaint) {
			t.Errorf("after %d steps the log has %q", steps, got)
		} else if strings.Replace(got, complaint, "", 1) != out {
			t.Errorf("after %d steps the log has %q", steps, got)
		}
	}
}

// What is not attached or finished is dropped, and counted once.
func TestSettle(t *testing.T) {
	for steps := 3; steps <= 5; steps++ {
		w, gone := abandoned(t, steps)
		p := w.run()
		if dropped, err := p.Settle(); dropped != 56+7 || err != nil {
			t.Errorf("after %d steps: %d bytes were dropped, %v", steps, dropped, err)
		}
		if dropped, err := p.Settle(); dropped != 0 || err != nil {
			t.Errorf("%d bytes were dropped again, %v", dropped, err)
		}
		if err := p.Finish(gone, w.open()); err != nil {
			t.Fatal(err)
		}
	}
}

// Settle and Finish skip what is being read.
func TestSettleWhileReading(t *testing.T) {
	o := start(t, 0)
	o.say("begun, ")
	o.drained()
	var gone Gone
	if err := o.pump.loop.call(func() { gone.Stdout = o.streams[0].carry.Key().Inode }); err != nil {
		t.Fatal(err)
	}
	if dropped, err := o.pump.Settle(); dropped != 0 || err != nil {
		t.Errorf("%d bytes were dropped, %v", dropped, err)
	}
	log, err := crilog.Open(o.path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.pump.Finish(gone, log); err != nil {
		t.Fatal(err)
	}
	o.say("ended\n")
	unix.Close(o.write)
	o.drained()
	if got := strings.NewReplacer("stdout P ", "", "stdout F ", "").Replace(o.records()); strings.ReplaceAll(got, "\n", "") != "begun, ended" {
		t.Errorf("the log has %q", got)
	}
}
