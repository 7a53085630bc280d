package boltlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// appendVolatile appends one entry that is volatile.
func appendVolatile(t testing.TB, l *Log, s eventlog.Stream, expected eventlog.Version, payload []byte) []eventlog.Record {
	t.Helper()
	records, err := l.Append(t.Context(), eventlog.Append{
		Stream: s, Expected: expected, Volatile: true,
		Entries: []eventlog.Entry{{Type: "test.Happened", Payload: payload}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestVolatileDoesNotWait: a volatile append is answered before the sync, which follows by
// itself. Any other append waits for it, also after volatile ones.
func TestVolatileDoesNotWait(t *testing.T) {
	syncing, goOn := make(chan struct{}), make(chan struct{})
	d := realDisk
	opened := false
	d.sync = func(f *os.File) error {
		if !opened {
			opened = true
			return syncFrames(f)
		}
		syncing <- struct{}{}
		<-goOn
		return syncFrames(f)
	}
	l, err := openWith(Options{Path: filepath.Join(t.TempDir(), "events.db")}, d)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, "s", 0) // to the bbolt file
	appendVolatile(t, l, "s", 1, nil)
	<-syncing // late
	if checkWhole(t, l, 2); l.Stats().Appends != 2 {
		t.Errorf("%+v", l.Stats())
	}
	goOn <- struct{}{}

	appendVolatile(t, l, "s", 2, nil)
	var lasting sync.WaitGroup
	answered := false
	lasting.Go(func() {
		mustAppend(t, l, "s", 3)
		answered = true
	})
	<-syncing // for both
	if l.Last() != 3 {
		t.Errorf("the log ends with record %d, which nobody knows to be durable", l.Last())
	}
	goOn <- struct{}{}
	lasting.Wait()
	if !answered || l.Last() != 4 {
		t.Error("the append has no answer")
	}
	if l.writer.journal.behind() {
		t.Error("the sync of the last append was not one of what came before it")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// blackout is a log whose machine can lose power at any moment: it knows what is
// certainly on the disk.
type blackout struct {
	l    *Log
	path string
	last eventlog.Sequence // when the log was opened

	mu     sync.Mutex // the writer syncs when it likes
	synced images
}

func (b *blackout) open(t *testing.T) {
	t.Helper()
	path := b.path
	remember := func(err error) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if err == nil && path == b.path {
			b.synced = takeImages(t, path)
		}
		return err
	}
	var err error
	b.l, err = openWith(Options{Path: path, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}, disk{
		commit: func(tx *bolt.Tx) error { return remember(commit(tx)) },
		write:  writeFrame,
		sync:   func(f *os.File) error { return remember(syncFrames(f)) },
		reached: func(s compactionStep) error {
			if s == stepNamed {
				return remember(nil)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.last = b.l.Last() // which are on the disk: the journal was synced
}

// strike lets some of the pages that were not synced reach the disk, and reopens the log.
func (b *blackout) strike(t *testing.T, random *rand.Rand) {
	t.Helper()
	b.mu.Lock()
	before, now := b.path, takeImages(t, b.path)
	torn := images{now.file, tear(random, b.synced.journal, now.journal, 0, []int{512, 4096, 4096}[random.IntN(3)])}
	b.path = torn.place(t)
	b.mu.Unlock()
	b.l.Close()
	if err := os.RemoveAll(filepath.Dir(before)); err != nil {
		t.Fatal(err)
	}
	b.open(t)
}

// compact compacts the log: everything is on the disk then.
func (b *blackout) compact(t *testing.T) eventlog.Sequence {
	t.Helper()
	if err := b.l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b.l.Last()
}

// examine checks that a log has what was appended, up to its end.
func (b *blackout) examine(t *testing.T, all []eventlog.Record) (n int) {
	t.Helper()
	for r, err := range b.l.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, all[n]) {
			t.Fatalf("record %d is not what was appended", n+1)
		}
		n++
	}
	checkWhole(t, b.l, n)
	return n
}

// TestPowerFailureTakesTheEnd: a power failure loses the last of the volatile appends,
// with all that came after them, and none before a synced one. What is lost stays lost,
// and is no damage.
func TestPowerFailureTakesTheEnd(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := &blackout{path: filepath.Join(t.TempDir(), "events.db")}
	b.open(t)
	var all []eventlog.Record // as appended
	heads := map[eventlog.Stream]eventlog.Version{}
	outcomes := map[string]int{}
	for range 60 {
		lasting := eventlog.Sequence(0)
		for range random.IntN(12) {
			s := eventlog.Stream(fmt.Sprint("s/", random.IntN(3)))
			a := eventlog.Append{Stream: s, Expected: heads[s], Volatile: random.IntN(5) > 0}
			for range 1 + random.IntN(3) {
				a.Entries = append(a.Entries, eventlog.Entry{Type: "t", Payload: randomBytes(random, []int{100, 1500, 20_000}[random.IntN(3)])})
			}
			records, err := b.l.Append(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, records...)
			heads[s] += eventlog.Version(len(records))
			if !a.Volatile {
				lasting = b.l.Last()
			}
		}
		if random.IntN(6) == 0 {
			lasting = b.compact(t)
			for range random.IntN(4) {
				all = append(all, appendVolatile(t, b.l, "s/0", heads["s/0"], []byte{})...)
				heads["s/0"]++
			}
		}
		known := max(lasting, b.last)
		b.strike(t, random)
		n := b.examine(t, all)
		switch last := eventlog.Sequence(n); {
		case last < known:
			t.Fatalf("the log ends with record %d, but %d was synced", last, known)
		case n == len(all):
			outcomes["all"]++
		case last == known:
			outcomes["none"]++
		default:
			outcomes["some"]++
		}
		all = all[:n]
		clear(heads)
		for _, r := range all {
			heads[r.Stream] = r.Version
		}
	}
	t.Log(outcomes)
	for _, outcome := range []string{"all", "some", "none"} {
		if outcomes[outcome] == 0 {
			t.Errorf("the test shows only a part: %v", outcomes)
		}
	}
	if err := b.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLostFrameStaysLost: a frame that reached the disk without its predecessor does not
// reappear when another frame replaces that.
func TestLostFrameStaysLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	d := realDisk
	d.sync = func(*os.File) error { return nil } // also the late ones
	l, err := openWith(Options{Path: path}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAppend(t, l, "s", 0)
	for v := range eventlog.Version(3) {
		appendVolatile(t, l, "s", v+1, nil)
	}
	files := takeImages(t, path)
	clear(files.journal[:journalPage])
	var said bytes.Buffer
	if l, err = openWith(Options{Path: files.place(t), Logger: slog.New(slog.NewTextHandler(&said, nil))}, realDisk); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	checkWhole(t, l, 1)
	if got := said.String(); !strings.Contains(got, "lost power") || !strings.Contains(got, `"found behind"=2`) {
		t.Errorf("it says %q", got)
	}
	// In the place of record 2, and its stream as well.
	appendVolatile(t, l, "s", 1, nil)
	again := open(t, Options{Path: takeImages(t, l.store.opener.path).place(t)})
	checkWhole(t, again, 2)
	mustAppend(t, again, "s", 2)
}

// TestSyncedFrameIsDamaged: a missing synced frame is damage, whatever volatile frames
// come after it.
func TestSyncedFrameIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	mustAppend(t, l, "s", 0)
	appendVolatile(t, l, "s", 1, nil)
	mustAppend(t, l, "s", 2) // syncs both
	appendVolatile(t, l, "s", 3, nil)
	files := takeImages(t, path)
	for frame := range 2 {
		damaged := images{files.file, bytes.Clone(files.journal)}
		clear(damaged.journal[frame*journalPage:][:journalPage])
		l := open(t, Options{Path: damaged.place(t)})
		if report, err := l.Verify(t.Context()); err != nil || report.OK() || l.Last() != 4 {
			t.Errorf("without frame %d: it ends with record %d, %+v, %v", frame, l.Last(), report, err)
		}
	}
}

// lossy is a disk whose journal loses what it cannot sync, and whose commits may fail, too.
type lossy struct {
	commits bool          // work always
	tried   chan struct{} // a sync has failed

	mu    sync.Mutex
	fails bool
}

func (d *lossy) set(fails bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

func (d *lossy) commit(tx *bolt.Tx) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails && !d.commits {
		return syscall.EIO
	}
	return commit(tx)
}

func (d *lossy) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.fails {
		return syncFrames(f)
	}
	// The kernel could not write it, and lets go of it.
	if _, err := f.WriteAt(make([]byte, 3*journalPage), 0); err != nil {
		return err
	}
	select {
	case d.tried <- struct{}{}:
	default:
	}
	return syscall.EIO
}

// TestLateSyncFails: acknowledged records that cannot be synced go to the bbolt file. If
// that fails, too, they stay in memory until they can be written.
func TestLateSyncFails(t *testing.T) {
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprintf("commits=%t", commits), func(t *testing.T) {
			d := &lossy{commits: commits, tried: make(chan struct{}, 1)}
			path := filepath.Join(t.TempDir(), "events.db")
			l, err := openWith(Options{Path: path}, disk{commit: d.commit, write: writeFrame, sync: d.sync})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			mustAppend(t, l, "s", 0)
			d.set(true)
			for v := range eventlog.Version(3) {
				appendVolatile(t, l, "s", v+1, nil)
			}
			<-d.tried
			if !commits {
				waitForTrouble(t, l)
				if _, err := appendTo(l, "s", 4); !errors.Is(err, eventlog.ErrUnavailable) {
					t.Errorf("an append meanwhile: %v", err)
				}
			}
			if n, err := drain(l.Read(t.Context(), 1)); err != nil || n != 4 {
				t.Errorf("%d records, %v", n, err)
			}
			d.set(false)
			waitHealthy(t, l)
			waitForFile(t, path, 4)
			mustAppend(t, l, "s", 4)
			checkWhole(t, l, 5)
		})
	}
}

// waitForTrouble waits until the log cannot be written.
func waitForTrouble(t *testing.T, l *Log) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); works(l.Health()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log says that all is well")
		}
	}
}

// waitForFile waits until the bbolt file of an open log has n records, without another
// append, and without what is in the journal.
func waitForFile(t *testing.T, path string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		again := open(t, Options{Path: images{pagesInUse(t, path), []byte{}}.place(t)})
		if again.Last() == eventlog.Sequence(n) {
			checkWhole(t, again, n)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bbolt file ends with record %d", again.Last())
		}
	}
}

// TestLastingBehindWhatIsLost: a frame that reached the disk without a volatile one before
// it does not make its append durable: the next daemon will not find it.
func TestLastingBehindWhatIsLost(t *testing.T) {
	var failing atomic.Bool
	path := filepath.Join(t.TempDir(), "events.db")
	l, err := openWith(Options{Path: path}, disk{
		commit: func(tx *bolt.Tx) error {
			if failing.Load() {
				return syscall.EIO
			}
			return commit(tx)
		},
		write: writeFrame,
		sync: func(f *os.File) error {
			if !failing.Load() {
				return syncFrames(f)
			}
			if _, err := f.WriteAt(make([]byte, journalPage), 0); err != nil {
				return err
			}
			return syscall.EIO
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAppend(t, l, "s", 0)
	failing.Store(true)
	appendVolatile(t, l, "s", 1, nil)
	if _, err := appendTo(l, "s", 2); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("the answer is %v", err)
	}
	checkWhole(t, l, 2) // what was answered
	checkWhole(t, open(t, Options{Path: takeImages(t, path).place(t)}), 1)
	failing.Store(false)
	waitHealthy(t, l)
	mustAppend(t, l, "s", 2)
	checkWhole(t, open(t, Options{Path: takeImages(t, path).place(t)}), 3)
}
