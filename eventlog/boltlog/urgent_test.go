package boltlog

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// TestUrgentForTheWaitAlone: the writer's thread is urgent while it writes to the
// journal, and as before when it answers.
func TestUrgentForTheWaitAlone(t *testing.T) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var writing *unix.SchedAttr
	l, err := openWith(Options{Path: filepath.Join(t.TempDir(), "events.db")}, disk{commit: commit, write: func(f *os.File, frame []byte, at int64) error {
		if writing, err = unix.SchedGetAttr(0, 0); err != nil {
			return err
		}
		return writeFrame(f, frame, at)
	}, sync: syncFrames})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAppend(t, l, "s", 0) // to the bbolt file
	answered := make(chan *unix.SchedAttr, 1)
	l.AppendAsync(eventlog.Append{Stream: "s", Expected: 1, Entries: []eventlog.Entry{{Type: "t"}}}, func([]eventlog.Record, error) {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
		}
		answered <- attr
	})
	after := <-answered
	if writing == nil || writing.Nice != urgentNice {
		t.Errorf("while it writes: %+v", writing)
	}
	if after == nil || after.Nice != before.Nice || after.Runtime != before.Runtime || after.Flags != before.Flags {
		t.Errorf("when it answers: %+v, want %+v", after, before)
	}
}

// TestChosenPolicyIsLeftAlone: another scheduling class of the daemon is not changed.
func TestChosenPolicyIsLeftAlone(t *testing.T) {
	got := make(chan *unix.SchedAttr, 1)
	go func() {
		defer close(got)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		batch := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}
		if err := unix.SchedSetAttr(0, batch, 0); err != nil {
			t.Error(err)
			return
		}
		var u urgency
		defer u.raise()()
		if attr, err := unix.SchedGetAttr(0, 0); err != nil || !u.refused {
			t.Errorf("%+v, %v", u, err)
		} else {
			got <- attr
		}
	}()
	if attr := <-got; attr == nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != 0 {
		t.Errorf("%+v", attr)
	}
}

// TestNotPermitted: without CAP_SYS_NICE the writer is scheduled like other threads.
func TestNotPermitted(t *testing.T) {
	refused := make(chan bool, 1)
	go func() {
		defer close(refused)
		runtime.LockOSThread() // for good, and with it the capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
			return
		}
		var u urgency
		u.raise()()
		u.raise()()
		refused <- u.refused
	}()
	if !<-refused {
		t.Error("the thread is urgent without a capability")
	}
}
