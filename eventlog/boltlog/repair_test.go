package boltlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// failing makes commits fail. Before Open returns there is no writer to race
// with, so it is set through openFailing only.
type failing struct {
	mode  atomic.Int32
	calls atomic.Int32
	// noJournal: the journal alone fails.
	noJournal atomic.Bool
}

const (
	commitsWork        = iota
	commitsAreLost     // an error, and nothing was written
	commitsAreThere    // an error, and everything was written
	commitsPanic       // in the middle, as bbolt does on damaged pages
	commitsHideTheFile // an error, everything was written, and the file can't be opened again
)

// disk fails as the mode says. The journal fails whenever commits do, so that the
// appends reach the commits.
func (f *failing) disk(path string) disk {
	return disk{commit: f.commit(path), write: func(file *os.File, frame []byte, at int64) error {
		if f.mode.Load() != commitsWork || f.noJournal.Load() {
			return syscall.EIO
		}
		return writeFrame(file, frame, at)
	}, sync: syncFrames}
}

func (f *failing) commit(path string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		f.calls.Add(1)
		switch f.mode.Load() {
		case commitsAreLost:
			if err := tx.Rollback(); err != nil {
				return err
			}
			return syscall.EIO
		case commitsAreThere:
			if err := commit(tx); err != nil {
				return err
			}
			return syscall.EIO
		case commitsPanic:
			panic("page 7: bad magic")
		case commitsHideTheFile:
			if err := commit(tx); err != nil {
				return err
			}
			if err := os.Rename(path, path+".hidden"); err != nil {
				return err
			}
			return syscall.EIO
		}
		return commit(tx)
	}
}

// openFailing opens a log whose commits the test controls.
func openFailing(t *testing.T) (*Log, *failing, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	f := &failing{}
	l, err := openWith(Options{Path: path}, f.disk(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, f, path
}

// appendTo appends one entry.
func appendTo(l *Log, s eventlog.Stream, expected eventlog.Version) ([]eventlog.Record, error) {
	return l.Append(context.Background(), eventlog.Append{Stream: s, Expected: expected, Entries: []eventlog.Entry{{Type: "t"}}})
}

// mustAppend is appendTo where nothing can go wrong.
func mustAppend(t testing.TB, l *Log, s eventlog.Stream, expected eventlog.Version) eventlog.Record {
	t.Helper()
	records, err := appendTo(l, s, expected)
	if err != nil {
		t.Fatalf("append to %q at %d: %v", s, expected, err)
	}
	return records[0]
}

// waitHealthy waits until the log has repaired itself.
func waitHealthy(t testing.TB, l *Log) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !works(l.Health()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log doesn't get well: %v", l.Health())
		}
	}
}

// works reports whether a log can be written.
func works(health error) bool { return health == nil || errors.Is(health, eventlog.ErrDegraded) }

// checkWhole checks that the log has n records and no damage.
func checkWhole(t testing.TB, l eventlog.Reader, n int) {
	t.Helper()
	report, err := l.Verify(context.Background())
	if err != nil || !report.OK() || report.Records != uint64(n) {
		t.Errorf("verify: %+v, %v; want %d records", report, err, n)
	}
	if last := l.Last(); last != eventlog.Sequence(n) {
		t.Errorf("Last() = %d, want %d", last, n)
	}
}

// TestCommitFails: the answer to an append whose commit failed is what the file
// has, whatever the error was.
func TestCommitFails(t *testing.T) {
	for name, c := range map[string]struct {
		mode    int32
		durable bool
	}{
		"and nothing was written":    {commitsAreLost, false},
		"and everything was written": {commitsAreThere, true},
		"with a panic":               {commitsPanic, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, f, _ := openFailing(t)
			mustAppend(t, l, "s", 0)
			before := l.store.current()

			f.mode.Store(c.mode)
			records, err := appendTo(l, "s", 1)
			switch {
			case c.durable && (err != nil || len(records) != 1 || records[0].Sequence != 2):
				t.Errorf("it is there, but the answer is %v, %v", records, err)
			case !c.durable && !errors.Is(err, eventlog.ErrUnavailable):
				t.Errorf("it isn't there, but the answer is %v, %v", records, err)
			}
			if l.store.current() == before {
				t.Errorf("the file was not opened again")
			}
			if err := l.Health(); !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("Health: %v", err)
			}
			// While it lasts, appends are refused and reads go on.
			if _, err := appendTo(l, "other", 0); !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("an append meanwhile: %v", err)
			}
			if n, err := drain(l.Read(t.Context(), 1)); err != nil || n != int(l.Last()) {
				t.Errorf("a read meanwhile: %d records, %v", n, err)
			}

			f.mode.Store(commitsWork)
			waitHealthy(t, l)
			version := eventlog.Version(1)
			if c.durable {
				version = 2
			}
			mustAppend(t, l, "s", version)
			checkWhole(t, l, int(version)+1)
		})
	}
}

// TestCommitFailsForABatch: one failed commit, many waiting appends, and each
// gets the true answer, including those that were refused for other reasons.
func TestCommitFailsForABatch(t *testing.T) {
	for name, mode := range map[string]int32{"lost": commitsAreLost, "there": commitsAreThere} {
		t.Run(name, func(t *testing.T) {
			l, f, _ := openFailing(t)
			mustAppend(t, l, "fence", 0)
			// The first append's answer holds the writer up until all
			// others wait, so that they become one batch.
			committed, all := make(chan struct{}), make(chan struct{})
			l.AppendAsync(eventlog.Append{Stream: "fence", Expected: 1, Entries: []eventlog.Entry{{Type: "t"}}},
				func([]eventlog.Record, error) { close(committed); <-all })
			<-committed
			const n = 20
			type answer struct {
				i       int
				records []eventlog.Record
				err     error
			}
			answers := make(chan answer, n)
			for i := range n {
				a := eventlog.Append{Stream: eventlog.Stream(fmt.Sprint("s/", i)), Entries: []eventlog.Entry{{Type: "t"}}}
				if i%5 == 4 {
					a.Expected = 9
				}
				l.AppendAsync(a, func(r []eventlog.Record, err error) { answers <- answer{i, r, err} })
			}
			f.mode.Store(mode)
			commits := f.calls.Load()
			close(all)
			for range n {
				a := <-answers
				switch {
				case a.i%5 == 4:
					if !errors.Is(a.err, eventlog.ErrWrongVersion) {
						t.Errorf("append %d with a wrong version: %v", a.i, a.err)
					}
				case mode == commitsAreLost && !errors.Is(a.err, eventlog.ErrUnavailable):
					t.Errorf("append %d was lost: %v", a.i, a.err)
				case mode == commitsAreThere && (a.err != nil || len(a.records) != 1):
					t.Errorf("append %d is there: %v", a.i, a.err)
				}
			}
			if got := f.calls.Load() - commits; got != 1 {
				t.Errorf("%d commits, want one", got)
			}
			f.mode.Store(commitsWork)
			waitHealthy(t, l)
			want := 2
			if mode == commitsAreThere {
				want += n * 4 / 5
			}
			checkWhole(t, l, want)
		})
	}
}

// TestCheckpointCommitFails: savings get the true answer, too.
func TestCheckpointCommitFails(t *testing.T) {
	l, f, _ := openFailing(t)
	f.mode.Store(commitsAreLost)
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{Put: map[string][]byte{"a": []byte("1")}}); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("lost: %v", err)
	}
	f.mode.Store(commitsWork)
	waitHealthy(t, l)
	if _, found, err := l.LoadCheckpoint(t.Context(), "x"); found || err != nil {
		t.Errorf("lost, but: %v, %v", found, err)
	}
	f.mode.Store(commitsAreThere)
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{Put: map[string][]byte{"a": []byte("2")}}); err != nil {
		t.Errorf("there: %v", err)
	}
	f.mode.Store(commitsWork)
	waitHealthy(t, l)
}

// TestOutcomeUnknown: if the file cannot be read, that is the answer; when it can
// be read again, the log continues from what it has.
func TestOutcomeUnknown(t *testing.T) {
	l, f, path := openFailing(t)
	mustAppend(t, l, "s", 0)
	f.mode.Store(commitsHideTheFile)
	_, err := appendTo(l, "s", 1)
	if !errors.Is(err, eventlog.ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("append: %v; want ErrOutcomeUnknown, the commit's error and the reason", err)
	}
	if errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append: %v; ErrUnavailable would say that nothing was appended", err)
	}
	if err := l.Health(); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("Health: %v", err)
	}
	if _, err := drain(l.Read(t.Context(), 1)); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	if _, err := appendTo(l, "s", 1); !errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, eventlog.ErrOutcomeUnknown) {
		t.Errorf("the next append: %v; it is known that it isn't there", err)
	}
	// A subscription doesn't end because of that; it waits.
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if n, err := drain(l.Subscribe(short, 1)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("subscription: %d records, %v; want the end of its context", n, err)
	}
	f.mode.Store(commitsWork)
	if err := os.Rename(path+".hidden", path); err != nil {
		t.Fatal(err)
	}
	// A subscriber learns of the record whose outcome was unknown.
	for r, err := range l.Subscribe(t.Context(), 2) {
		if err != nil || r.Sequence != 2 {
			t.Errorf("subscriber got %+v, %v", r, err)
		}
		break
	}
	waitHealthy(t, l)
	if _, err := appendTo(l, "s", 1); !errors.Is(err, eventlog.ErrWrongVersion) {
		t.Errorf("the unknown append is there after all, but: %v", err)
	}
	mustAppend(t, l, "s", 2)
	checkWhole(t, l, 3)
}

// TestLostRecordsAreNoticed: a file that comes back with fewer records than
// were acknowledged is not used.
func TestLostRecordsAreNoticed(t *testing.T) {
	l, f, path := openFailing(t)
	f.noJournal.Store(true)
	mustAppend(t, l, "s", 0)
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{}); err != nil { // so that both meta pages know the record
		t.Fatal(err)
	}
	old := readFile(t, path)
	mustAppend(t, l, "s", 1)
	mustAppend(t, l, "s", 2)
	f.mode.Store(commitsHideTheFile)
	if _, err := appendTo(l, "s", 3); !errors.Is(err, eventlog.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	f.mode.Store(commitsWork)
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !errors.Is(l.Health(), eventlog.ErrCorrupt); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Health: %v; want ErrCorrupt", l.Health())
		}
	}
	if _, err := appendTo(l, "s", 1); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
}

// TestDamagedStreamInABatch: an append that meets damage fails alone.
func TestDamagedStreamInABatch(t *testing.T) {
	l, _, _ := openFailing(t)
	mustAppend(t, l, "good", 0)
	b := &batch{}
	for _, s := range []eventlog.Stream{"good", "bad", "fine"} {
		r := &request{append: eventlog.Append{Stream: s, Entries: []eventlog.Entry{{Type: "t"}}}}
		if s == "good" {
			r.append.Expected = 1
		}
		if s == "bad" {
			// What bbolt can't take stands for what it panics at.
			r.change = newSaving("x", eventlog.Delta{Put: map[string][]byte{strings.Repeat("k", bolt.MaxKeySize): nil}})
		}
		b.requests = append(b.requests, r)
	}
	done := make(chan struct{})
	l.AppendAsync(eventlog.Append{Stream: "fence", Entries: []eventlog.Entry{{Type: "t"}}}, func([]eventlog.Record, error) {
		l.writer.write(b) // this is the writer's goroutine
		close(done)
	})
	<-done
	if err := b.requests[1].err; !errors.Is(err, bolterrors.ErrKeyTooLarge) {
		t.Errorf("the bad one: %v", err)
	}
	for i, want := range map[int]eventlog.Sequence{0: 3, 2: 4} {
		if r := b.requests[i]; r.err != nil || len(r.records) != 1 || r.records[0].Sequence != want {
			t.Errorf("the others: %+v, %v; want record %d", r.records, r.err, want)
		}
	}
	checkWhole(t, l, 4)
}

// TestDiskFull fills a real file system. Appends are refused with the reason,
// reads go on, and appends work again when there is space; the log has what was
// acknowledged and nothing that was refused.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatalf("mount a small tmpfs (this test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	path := filepath.Join(dir, "log", "events.db")
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	payload := make([]byte, 20<<10)
	put := func(v eventlog.Version) error {
		_, err := l.Append(context.Background(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: payload}}})
		return err
	}
	version := eventlog.Version(0)
	for range 3 { // full, space, full again …
		for ; err == nil; version++ {
			err = put(version)
		}
		version-- // the last one failed
		if !errors.Is(err, eventlog.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append on a full disk: %v", err)
		}
		if err := l.Health(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Health: %v", err)
		}
		if n, err := drain(l.ReadStream(t.Context(), "s", 1)); n != int(version) || err != nil {
			t.Errorf("on a full disk: %d records, %v; want %d", n, err, version)
		}
		opened := l.store.current()
		waitForTries(t, l, 3)
		if l.store.current() != opened {
			t.Errorf("the file was opened, and read, again")
		}
		var size unix.Statfs_t
		if err := unix.Statfs(dir, &size); err != nil {
			t.Fatal(err)
		}
		bigger := fmt.Sprintf("size=%d", int64(size.Blocks)*size.Bsize+4<<20)
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, bigger); err != nil {
			t.Fatal(err)
		}
		waitHealthy(t, l)
		if err = put(version); err != nil {
			t.Fatalf("with space again: %v", err)
		}
		version++
	}
	checkWhole(t, l, int(version))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, open(t, Options{Path: path}), int(version))
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
}

// waitForTries waits for a number of failed attempts to repair the log.
func waitForTries(t *testing.T, l *Log, n int) {
	t.Helper()
	last := l.writer.health.Load()
	for deadline := time.Now().Add(time.Minute); n > 0; time.Sleep(5 * time.Millisecond) {
		if now := l.writer.health.Load(); now != last {
			last, n = now, n-1
		}
		if time.Now().After(deadline) {
			t.Fatal("the log does not try")
		}
	}
}

// TestCloseWhileFailing: a failing log can be closed at once.
func TestCloseWhileFailing(t *testing.T) {
	l, f, _ := openFailing(t)
	f.mode.Store(commitsAreLost)
	if _, err := appendTo(l, "s", 0); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	l.AppendAsync(eventlog.Append{Stream: "s", Entries: []eventlog.Entry{{Type: "t"}}}, func(_ []eventlog.Record, err error) { answered <- err })
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-answered; !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("what waited: %v", err)
	}
}
