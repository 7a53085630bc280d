package boltlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// compacting is a log of which a part is gone, with a function at each step of a compaction.
type compacting struct {
	*Log
	path    string
	version eventlog.Version // of stream "new"
	left    int              // records

	at     func(compactionStep) error
	fails  *atomic.Bool // syncs of the directory
	inTurn bool         // the writer is at work: it cannot take appends
}

func openCompacting(t *testing.T) *compacting {
	t.Helper()
	c := &compacting{path: filepath.Join(t.TempDir(), "events.db"), at: func(compactionStep) error { return nil }, fails: &atomic.Bool{}}
	d := realDisk
	d.syncDir = func(path string) error {
		if c.fails.Load() {
			return syscall.EIO
		}
		return syncDir(path)
	}
	d.reached = func(s compactionStep) error {
		c.inTurn = c.inTurn || s == stepLast
		return c.at(s)
	}
	l, err := openWith(Options{Path: c.path}, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c.Log = l
	for v := range eventlog.Version(300) {
		for _, s := range []eventlog.Stream{"a", "node", "old"} {
			_, err := l.Append(t.Context(), eventlog.Append{
				Stream: s, Expected: v, Volatile: true, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 3000)}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	thin := eventlog.Thin{Rule: "settled"}
	for s := eventlog.Sequence(1); s < 400; s += 3 { // of stream a
		thin.Sequences = append(thin.Sequences, s)
	}
	trims := []eventlog.Trim{
		{Stream: "node", Through: 100, Rule: "age", State: []byte("hundred")},
		{Stream: "old", Through: 300, Rule: "age", Whole: true},
	}
	err = l.Thin(t.Context(), thin)
	for _, trim := range trims {
		err = errors.Join(err, l.Trim(t.Context(), trim))
	}
	err = errors.Join(err, l.SaveCheckpoint(t.Context(), "x", largeDelta(900, 0, 300)))
	if err != nil {
		t.Fatal(err)
	}
	c.left = 900 - len(thin.Sequences) - 400
	return c
}

// grow appends a record.
func (c *compacting) grow(t testing.TB) {
	t.Helper()
	mustAppend(t, c.Log, "new", c.version)
	c.version++
	c.left++
}

// check checks that a log is what this one is now.
func (c *compacting) check(t testing.TB, l eventlog.Reader, when string) {
	t.Helper()
	last := eventlog.Sequence(900 + c.version)
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Records != uint64(c.left) || report.Records+report.Removed.Total() != uint64(last) || l.Last() != last {
		t.Errorf("%s: verify: %+v, %v; want %d records of %d", when, report, err, c.left, last)
	}
	if n, err := drain(l.Read(t.Context(), 1)); n != c.left || err != nil {
		t.Errorf("%s: %d records, %v; want %d", when, n, err, c.left)
	}
	for s, want := range map[eventlog.Stream]int{"a": 300 - 133, "node": 200, "old": 0, "new": int(c.version)} {
		if n, err := drain(l.ReadStream(t.Context(), s, 1)); n != want || err != nil {
			t.Errorf("%s: stream %q has %d records, %v; want %d", when, s, n, err, want)
		}
	}
	if info, _, err := l.Stream(t.Context(), "node"); err != nil || string(info.Base.State) != "hundred" {
		t.Errorf("%s: the node's stream is %+v, %v", when, info, err)
	}
	if saved, found, err := l.LoadCheckpoint(t.Context(), "x"); err != nil || !found || saved.Sequence != 900 {
		t.Errorf("%s: the checkpoint is %+v, %v, %v", when, saved, found, err)
	}
}

// noCopy checks that nothing is left of a compaction.
func noCopy(t testing.TB, path, when string) {
	t.Helper()
	if _, err := os.Lstat(copyPath(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: the copy is there: %v", when, err)
	}
}

// moment is what the disk has at a step of a compaction.
type moment struct {
	step                compactionStep
	file, journal, copy []byte
	is                  compacting // what is acknowledged
}

func (m *moment) place(t testing.TB) string {
	t.Helper()
	path := images{m.file, m.journal}.place(t)
	if m.copy != nil {
		if err := os.WriteFile(copyPath(path), m.copy, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// moments compacts a log and keeps what the disk has at each step, while records are
// appended at each step of the goroutine.
func moments(t *testing.T) (all []moment) {
	c := openCompacting(t)
	c.at = func(s compactionStep) error {
		if !c.inTurn {
			c.grow(t)
		}
		files := takeImages(t, c.path)
		partial, err := os.ReadFile(copyPath(c.path))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		all = append(all, moment{s, files.file, files.journal, partial, *c})
		return err
	}
	if err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.check(t, c.Log, "compacted")
	noCopy(t, c.path, "compacted")
	return all
}

// goesOn opens a log after a crash: it is whole, and works.
func (m *moment) goesOn(t *testing.T, when string) {
	t.Helper()
	path := m.place(t)
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	m.is.check(t, r, when+", read only")
	r.Close()
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer l.Close()
	noCopy(t, path, when)
	m.is.Log = l
	m.is.check(t, l, when)
	m.is.grow(t)
	if err := l.Compact(t.Context()); err != nil {
		t.Fatalf("%s: compact again: %v", when, err)
	}
	m.is.check(t, l, when+", compacted")
	l.Close()
	again := open(t, Options{Path: path})
	m.is.check(t, again, when+", and opened again")
}

// TestCompactionIsAllOrNothing kills the daemon, or cuts the power, at each step of a
// compaction: the log is whole, with all that was acknowledged by then.
func TestCompactionIsAllOrNothing(t *testing.T) {
	all := moments(t)
	seen := map[compactionStep]bool{}
	for i := range all {
		m := &all[i]
		seen[m.step] = true
		when := fmt.Sprintf("moment %d, %s", i, m.step)
		m.is.check(t, open(t, Options{Path: m.place(t)}), when)
		if i > 0 && all[i-1].step == m.step {
			continue // one of a kind is enough for the rest
		}
		kill := *m
		kill.goesOn(t, when+", killed")
		switch m.step {
		case stepRename: // the disk may have the old name
			cut := *m
			cut.file, cut.copy = all[i-1].file, all[i-1].copy
			cut.goesOn(t, when+", power failure with the old name")
			cut = *m
			cut.copy = all[i-1].copy[:len(all[i-1].copy)/2] // both names
			cut.goesOn(t, when+", power failure with both names")
		case stepNamed, stepSwapped:
		default: // the disk may have any part of the copy
			for name, garbled := range map[string][]byte{
				"nothing": {}, "half": m.copy[:len(m.copy)/2], "zeros": make([]byte, len(m.copy)), "no name": nil,
			} {
				cut := *m
				cut.copy = garbled
				cut.goesOn(t, when+", power failure, of the copy "+name)
			}
		}
	}
	for _, s := range []compactionStep{
		stepRoom, stepCreated, stepPiece, stepSynced, stepRound, stepLast, stepFilled, stepWhole, stepRename, stepNamed, stepSwapped,
	} {
		if !seen[s] {
			t.Errorf("nothing has %s", s)
		}
	}
}

// TestCompactionFails lets each step fail: the log goes on as it is.
func TestCompactionFails(t *testing.T) {
	for _, s := range []compactionStep{stepRoom, stepCreated, stepPiece, stepSynced, stepRound, stepLast, stepFilled, stepWhole} {
		t.Run(string(s), func(t *testing.T) {
			c := openCompacting(t)
			file := c.store.current().file
			c.at = func(now compactionStep) error {
				if now == s {
					return syscall.EIO
				}
				return nil
			}
			if err := c.Compact(t.Context()); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("compact: %v", err)
			}
			noCopy(t, c.path, "failed")
			if c.store.current().file != file {
				t.Error("the log has another file")
			}
			if err := c.Health(); err != nil {
				t.Errorf("Health: %v", err)
			}
			c.inTurn = false
			c.grow(t)
			c.check(t, c.Log, "failed")
			c.at = func(compactionStep) error { return nil }
			if err := c.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.grow(t)
			c.check(t, c.Log, "and then compacted")
			c.Close()
			c.check(t, open(t, Options{Path: c.path}), "opened again")
		})
	}
}

// TestNameIsNotSynced: as long as the disk may not know the file's new name, nothing is
// acknowledged: the old file would not have it.
func TestNameIsNotSynced(t *testing.T) {
	c := openCompacting(t)
	var old moment
	c.at = func(s compactionStep) error {
		if s == stepWhole {
			old = moment{file: takeImages(t, c.path).file, is: *c}
		}
		return nil
	}
	c.fails.Store(true)
	if err := c.Compact(t.Context()); err != nil {
		t.Fatal(err) // it is done
	}
	if err := c.Health(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Health: %v", err)
	}
	waitForTries(t, c.Log, 2)
	if _, err := appendTo(c.Log, "new", 0); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	c.check(t, c.Log, "read meanwhile")
	old.journal = takeImages(t, c.path).journal
	old.goesOn(t, "power failure with the old name")
	c.fails.Store(false)
	waitHealthy(t, c.Log)
	c.grow(t)
	c.check(t, c.Log, "repaired")
	c.Close()
	c.check(t, open(t, Options{Path: c.path}), "opened again")
}

// TestCompactGivesBack: the file shrinks, what was read from the old one is closed, and the
// rest is as it was.
func TestCompactGivesBack(t *testing.T) {
	c := openCompacting(t)
	before, err := c.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Free < 1<<20 {
		t.Errorf("before: %+v", before)
	}
	if err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := c.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Bytes > before.Bytes-before.Free+256<<10 || after.Free > 128<<10 || after.RecordBytes != before.RecordBytes || after.Removed.String() != before.Removed.String() {
		t.Errorf("before: %+v\nafter: %+v", before, after)
	}
	info, err := os.Stat(c.path)
	if err != nil || info.Size()+journalSize != after.Bytes || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %+v, %v; usage: %+v", info, err, after)
	}
	c.store.retired.Wait()
	if open := openFiles(t, "(deleted)"); len(open) > 0 {
		t.Errorf("files that are open still: %v", open)
	}
	// It counts the same when it is opened again, and by a tool.
	c.Close()
	r, err := OpenReadOnly(c.path)
	if err != nil {
		t.Fatal(err)
	}
	tool, err := r.Usage(t.Context())
	r.Close()
	l := open(t, Options{Path: c.path})
	daemon, err2 := l.Usage(t.Context())
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for who, u := range map[string]eventlog.Usage{"a tool": tool, "the next daemon": daemon} {
		const ahead = 16 << 20 // that bbolt makes a file longer at a time; it takes no space on the disk
		if u.RecordBytes != after.RecordBytes || u.Bytes-u.Free > after.Bytes-after.Free+64<<10 || u.Free > ahead+256<<10 {
			t.Errorf("%s: %+v\nbefore: %+v", who, u, after)
		}
	}
}

// openFiles are those of this process whose names end with something.
func openFiles(t testing.TB, suffix string) (names []string) {
	t.Helper()
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if name, err := os.Readlink("/proc/self/fd/" + link.Name()); err == nil && strings.HasSuffix(name, suffix) && strings.Contains(name, "events.db") {
			names = append(names, name)
		}
	}
	return names
}

// TestCompactUnderReaders: who reads the old file goes on in it, and who reads a record at a
// time finds the next one in the new file.
func TestCompactUnderReaders(t *testing.T) {
	c := openCompacting(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // as Verify and Backup do
		err := c.store.viewHandle(context.Background(), false, func(h *handle, _ *bolt.Tx) error {
			close(inside)
			<-goOn
			_, err := h.file.Stat()
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	n := 0
	for _, err := range c.Read(t.Context(), 1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			if err := c.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != c.left {
		t.Errorf("%d records were read, want %d", n, c.left)
	}
	if open := openFiles(t, "(deleted)"); len(open) == 0 {
		t.Error("the old file was closed under a reader")
	}
	copied := filepath.Join(t.TempDir(), "backup")
	if err := c.Backup(t.Context(), copied); err != nil {
		t.Error(err)
	}
	c.check(t, openBackup(t, copied), "backup")
	close(goOn)
	all.Wait()
	c.store.retired.Wait()
	if open := openFiles(t, "(deleted)"); len(open) > 0 {
		t.Errorf("files that are open still: %v", open)
	}
	c.check(t, c.Log, "compacted")
}

// TestCompactIsGivenUp ends a compaction by its context, and by closing the log.
func TestCompactIsGivenUp(t *testing.T) {
	for _, how := range []string{"context", "close"} {
		c := openCompacting(t)
		ctx, cancel := context.WithCancel(t.Context())
		var closed sync.WaitGroup
		c.at = func(s compactionStep) error {
			switch {
			case s != stepCreated:
			case how == "context":
				cancel()
			default:
				closed.Go(func() { c.Close() })
				c.queue.Close() // so that it is closing when the copying goes on
			}
			return nil
		}
		err := c.Compact(ctx)
		cancel()
		if how == "context" && !errors.Is(err, context.Canceled) || how == "close" && !errors.Is(err, eventlog.ErrClosed) {
			t.Errorf("%s: %v", how, err)
		}
		closed.Wait()
		c.Close()
		noCopy(t, c.path, how)
		c.check(t, open(t, Options{Path: c.path}), how)
	}
}

// TestCompactAndLock: who waits for the lock of a file that is replaced meanwhile gets the
// log, not what it was.
func TestCompactAndLock(t *testing.T) {
	c := openCompacting(t)
	f, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := sameFile(c.path, info); err != nil {
		t.Error(err)
	}
	opened := make(chan *Log)
	go func() {
		l, err := Open(Options{Path: c.path, LockWait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		opened <- l
	}()
	// Until it waits: it has the file open.
	for deadline := time.Now().Add(time.Minute); len(openFiles(t, "events.db")) < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the lock")
		}
	}
	if err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sameFile(c.path, info); !errors.Is(err, errReplaced) {
		t.Errorf("the old file is taken for the log: %v", err)
	}
	c.grow(t)
	c.store.retired.Wait() // its lock is free now
	select {
	case <-opened:
		t.Fatal("two have the log")
	case <-time.After(10 * lockPoll):
	}
	c.Close()
	l := <-opened
	c.check(t, l, "the next daemon")
	l.Close()
}

// TestCompactDamaged: what is damaged stays so, and what isn't is kept.
func TestCompactDamaged(t *testing.T) {
	c := openCompacting(t)
	c.Close()
	corrupt(t, c.path, bucketRecords, recordKey(500), flipFirstBit)
	corrupt(t, c.path, bucketRecords, recordKey(601), remove)
	corrupt(t, c.path, bucketHoles, recordKey(1), flipFirstBit)
	corrupt(t, c.path, bucketMeta, keyUsage, flipFirstBit)
	l := open(t, Options{Path: c.path})
	before, records := readThroughDamage(t, l.Read(t.Context(), 1))
	if len(before) < 3 {
		t.Errorf("damage: %q", before)
	}
	if _, err := l.Usage(t.Context()); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("usage: %v", err)
	}
	if err := l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, n := readThroughDamage(t, l.Read(t.Context(), 1))
	if !match(after, before) || n != records {
		t.Errorf("%d records, damage: %q\nbefore: %d, %q", n, after, records, before)
	}
	if _, err := l.Usage(t.Context()); err != nil {
		t.Errorf("usage: %v", err)
	}
	mustAppend(t, l, "new", 0)
}

// TestCompactWithoutRoom: a compaction begins only if there is room, and ends when it
// becomes scarce. Appends go on.
func TestCompactWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		t.Fatalf("mount a small tmpfs (this test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	path := filepath.Join(dir, "events.db")
	var fill atomic.Bool
	d := realDisk
	d.reached = func(s compactionStep) error {
		if s == stepCreated && fill.Load() {
			return os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 92<<20), 0o600)
		}
		return nil
	}
	l, err := openWith(Options{Path: path}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	version := eventlog.Version(0)
	for ; version < 200; version++ {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: version, Volatile: true, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 50_000)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(when string) {
		t.Helper()
		if err := l.Compact(t.Context()); !errors.Is(err, eventlog.ErrNoRoom) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", when, err)
		}
		noCopy(t, path, when)
		mustAppend(t, l, "s", version)
		version++
		checkWhole(t, l, int(version))
	}
	refused("a small disk")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=128m"); err != nil {
		t.Fatal(err)
	}
	fill.Store(true)
	refused("a disk that fills up meanwhile")
	fill.Store(false)
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := l.Compact(t.Context()); err != nil {
		t.Error(err)
	}
	checkWhole(t, l, int(version))
	if err := errors.Join(l.Close(), os.Remove(path), os.Remove(journalPath(path))); err != nil {
		t.Fatal(err)
	}
}

// TestCompactCatchesUp: what is appended during a round is copied in the next.
func TestCompactCatchesUp(t *testing.T) {
	c := openCompacting(t)
	rounds := 0
	c.at = func(s compactionStep) error {
		if s == stepRound {
			rounds++
			for range 50 * max(0, 4-rounds) { // more than one journal has room for
				_, err := c.Append(context.Background(), eventlog.Append{Stream: "new", Expected: c.version, Volatile: true, Entries: []eventlog.Entry{{Type: "t", Payload: make([]byte, 40_000)}}})
				if err != nil {
					return err
				}
				c.version++
				c.left++
			}
		}
		return nil
	}
	if err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rounds < 4 {
		t.Errorf("it took %d rounds", rounds)
	}
	c.check(t, c.Log, "compacted")
	c.Close()
	c.check(t, open(t, Options{Path: c.path}), "opened again")
}

// TestMapped: the address is that of the file that is in use.
func TestMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{Path: path})
	expect := func() {
		t.Helper()
		if err := l.Mapped(func(start uintptr) error {
			maps, err := os.ReadFile("/proc/self/maps")
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(maps)) {
				if strings.HasPrefix(line, fmt.Sprintf("%08x-", start)) && strings.HasSuffix(line, " "+path+"\n") {
					return nil
				}
			}
			return fmt.Errorf("nothing of %s is at %#x", path, start)
		}); err != nil {
			t.Error(err)
		}
	}
	expect()
	if err := l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Mapped(func(uintptr) error { t.Error("a closed log is mapped"); return nil }); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
