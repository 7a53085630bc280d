package boltlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/boltpages"
	"github.com/stele-runtime/stele/eventlog/logtest"
)

// images are a log's two files at one moment.
type images struct {
	file, journal []byte
}

func takeImages(t testing.TB, path string) images {
	t.Helper()
	journal, err := os.ReadFile(journalPath(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return images{pagesInUse(t, path), inUse(journal)}
}

// openPages opens a bbolt file, which the caller closes.
func openPages(t testing.TB, path string) (f *os.File, size int64, meta boltpages.Meta) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	meta, _, err = boltpages.ReadMeta(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size(), meta
}

// pagesInUse reads a bbolt file without its preallocated pages.
func pagesInUse(t testing.TB, path string) []byte {
	t.Helper()
	f, _, meta := openPages(t, path)
	defer f.Close()
	b := make([]byte, int64(meta.Pages)*int64(meta.PageSize))
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// inUse cuts off what was never written to.
func inUse(file []byte) []byte { return bytes.TrimRight(file, "\x00") }

// place writes the images as a log that was not closed, and returns its path.
func (i images) place(t testing.TB) string {
	t.Helper()
	const fileSize = 32 << 20
	path := write(t, i.file)
	if err := os.Truncate(path, fileSize); err != nil {
		t.Fatal(err)
	}
	if i.journal == nil {
		return path
	}
	if err := os.WriteFile(journalPath(path), i.journal, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(journalPath(path), journalSize); err != nil {
		t.Fatal(err)
	}
	return path
}

// tear returns a file of which only some pieces of a change reached the disk, none
// before the given place.
func tear(random *rand.Rand, before, after []byte, from, size int) []byte {
	torn := make([]byte, max(len(before), len(after)))
	copy(torn, before)
	for at := from; at < len(after); at += size {
		if end := min(at+size, len(after)); random.IntN(2) == 0 {
			copy(torn[at:end], after[at:end])
		}
	}
	return torn
}

// powerFailure is a log around one write.
type powerFailure struct {
	what          string
	before, after images
	acknowledged  int // records, before the write
}

// failures makes a log and returns what its files were around some of its writes,
// and all its records.
func failures(t *testing.T, random *rand.Rand) (all []powerFailure, records []eventlog.Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	var l *Log
	var err error
	chance := rand.New(rand.NewPCG(random.Uint64(), 0)) // the writer's
	around := func(what string, fn func() error) error {
		if what == "frame" && chance.IntN(20) > 0 {
			return fn()
		}
		f := powerFailure{what: what, before: takeImages(t, path), acknowledged: int(l.Last())}
		err := fn()
		f.after = takeImages(t, path)
		all = append(all, f)
		return err
	}
	l, err = openWith(Options{Path: path, BootID: "the first"}, disk{
		commit: func(tx *bolt.Tx) error { return around("commit", func() error { return commit(tx) }) },
		write: func(f *os.File, frame []byte, at int64) error {
			return around("frame", func() error { return writeFrame(f, frame, at) })
		},
		sync: syncFrames,
	})
	if err != nil {
		t.Fatal(err)
	}
	versions := map[eventlog.Stream]eventlog.Version{}
	var saved eventlog.Sequence
	for i := range 400 {
		s := eventlog.Stream(fmt.Sprintf("sandbox/%d", random.IntN(20)))
		var entries []eventlog.Entry
		for range 1 + random.IntN(3) {
			entries = append(entries, eventlog.Entry{Type: "test.Happened", Payload: randomBytes(random, []int{100, 1500, 20_000}[random.IntN(3)])})
		}
		got, err := l.Append(t.Context(), eventlog.Append{Stream: s, Expected: versions[s], Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		versions[s] += eventlog.Version(len(entries))
		records = append(records, got...)
		if i%97 == 96 {
			d := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: l.Last()}, After: saved, Put: map[string][]byte{"live": randomBytes(random, 30_000)}}
			if err := l.SaveCheckpoint(t.Context(), "live", d); err != nil {
				t.Fatal(err)
			}
			saved = d.Sequence
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return all, records
}

func randomBytes(random *rand.Rand, most int) []byte {
	b := make([]byte, random.IntN(most))
	for at := 0; at+8 <= len(b); at += 8 {
		binary.NativeEndian.PutUint64(b[at:], random.Uint64())
	}
	return b
}

// powerFailures is a run of TestPowerFailure.
type powerFailures struct {
	*testing.T
	random   *rand.Rand
	records  []eventlog.Record // that were appended in all
	outcomes map[string]int
}

// boot opens the log after a power failure and returns how many records it has.
func (p *powerFailures) boot(f powerFailure, how string, now images) int {
	p.Helper()
	path := now.place(p)
	l, err := Open(Options{Path: path, BootID: "the second", Logger: slog.New(slog.NewTextHandler(p.Output(), nil))})
	if err != nil {
		p.Fatalf("%s, %s: %v", f.what, how, err)
	}
	defer l.Close()
	n := 0
	for r, err := range l.Read(p.Context(), 1) {
		if err != nil {
			p.Fatalf("%s, %s: %v", f.what, how, err)
		}
		if !reflect.DeepEqual(r, p.records[n]) {
			p.Fatalf("%s, %s: record %d is not what was written", f.what, how, n+1)
		}
		n++
	}
	if n < f.acknowledged {
		p.Fatalf("%s, %s: the log has %d records, but %d were acknowledged", f.what, how, n, f.acknowledged)
	}
	for range 3 { // it goes on
		if _, err := l.Append(context.Background(), eventlog.Append{Stream: "later", Expected: l.recent.head("later"), Entries: []eventlog.Entry{{Type: "t"}}}); err != nil {
			if !errors.Is(err, eventlog.ErrWrongVersion) {
				p.Fatalf("%s, %s: %v", f.what, how, err)
			}
		}
	}
	checkWhole(p, l, int(l.Last()))
	if err := os.RemoveAll(filepath.Dir(path)); err != nil { // they are large
		p.Fatal(err)
	}
	return n
}

// failed is a power failure with the number of records before and after the write.
type failed struct {
	*powerFailures
	powerFailure
	before, after int
}

// check boots with a part of what was being written.
func (f *failed) check(how string, now images) {
	f.Helper()
	switch n := f.boot(f.powerFailure, how, now); {
	case n != f.before && n != f.after:
		f.Fatalf("%s, %s: the log has %d records; it had %d before the write and %d after", f.what, how, n, f.before, f.after)
	case f.before == f.after: // it was in the journal
		f.outcomes[f.what+" that adds nothing"]++
	case n == f.after:
		f.outcomes[f.what+" kept"]++
	default:
		f.outcomes[f.what+" undone"]++
	}
}

// tear boots with some pieces of the write on the disk.
func (f *failed) tear(size int) {
	before, after := f.powerFailure.before, f.powerFailure.after
	how := fmt.Sprintf("in pieces of %d", size)
	if f.what == "frame" {
		f.check(how, images{before.file, tear(f.random, before.journal, after.journal, 0, size)})
		return
	}
	// bbolt syncs the data before it writes the meta page.
	metas := 2 * os.Getpagesize()
	f.check("data "+how, images{tear(f.random, before.file, after.file, metas, size), before.journal})
	file := bytes.Clone(after.file)
	copy(file, tear(f.random, before.file[:metas], after.file[:metas], 0, size))
	f.check("meta "+how, images{file, before.journal})
}

// TestPowerFailure lets random parts of a write reach the disk, by pages and by sectors:
// after the boot the log is sound and has what was acknowledged and, completely or not at
// all, what was being written.
func TestPowerFailure(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := &powerFailures{T: t, random: rand.New(rand.NewPCG(seed, 0)), outcomes: map[string]int{}}
	var all []powerFailure
	all, p.records = failures(t, p.random)
	for _, one := range all {
		f := &failed{powerFailures: p, powerFailure: one}
		f.before, f.after = p.boot(one, "nothing", one.before), p.boot(one, "all", one.after)
		if f.after < f.before || f.what == "frame" && f.after == f.before {
			t.Fatalf("%s: %d records before, %d after", f.what, f.before, f.after)
		}
		for _, size := range []int{4096, 512} {
			f.tear(size)
		}
	}
	t.Log(p.outcomes)
	for _, outcome := range []string{"frame kept", "frame undone", "commit that adds nothing"} {
		if p.outcomes[outcome] == 0 {
			t.Errorf("the test shows only a part: %v", p.outcomes)
		}
	}
}

// crashed makes a log with n records that was not closed, most of them in its journal,
// a record a frame.
func crashed(t testing.TB, n int) (images, []eventlog.Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	var all []eventlog.Record
	for i := range n {
		records, err := l.Append(t.Context(), eventlog.Append{
			Stream: eventlog.Stream(fmt.Sprint("s/", i%3)), Expected: eventlog.Version(i / 3),
			Entries: []eventlog.Entry{{Type: "test.Happened", Payload: bytes.Repeat([]byte{byte(i)}, i*97%9000)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, records...)
	}
	return takeImages(t, path), all
}

// TestJournalIsRead: the next daemon and tools read the journal's records like all others;
// tools leave them there.
func TestJournalIsRead(t *testing.T) {
	files, all := crashed(t, 30)
	path := files.place(t)
	check := func(r eventlog.Reader) {
		t.Helper()
		checkWhole(t, r, len(all))
		for from := range eventlog.Sequence(len(all)) {
			n := int(from)
			for got, err := range r.Read(t.Context(), from+1) {
				if err != nil || !reflect.DeepEqual(got, all[n]) {
					t.Fatalf("from record %d on: record %d is %+v, %v", from+1, n+1, got, err)
				}
				n++
			}
			if n != len(all) {
				t.Errorf("from record %d on: %d records", from+1, n-int(from))
			}
		}
		for i := range 3 {
			for from := range eventlog.Version(10) {
				want := from + 1
				for got, err := range r.ReadStream(t.Context(), eventlog.Stream(fmt.Sprint("s/", i)), from+1) {
					if err != nil || got.Version != want || !reflect.DeepEqual(got, all[i+3*int(want-1)]) {
						t.Fatalf("stream %d from %d on: %+v, %v", i, from+1, got, err)
					}
					want++
				}
				if want != 11 {
					t.Errorf("stream %d from %d on: it ends with version %d", i, from+1, want-1)
				}
			}
		}
		report, err := r.Verify(t.Context())
		if err != nil || report.Streams != 3 || report.First != 1 || report.Last != 30 {
			t.Errorf("Verify: %+v, %v", report, err)
		}
	}
	for range 2 {
		r, err := OpenReadOnly(path)
		if err != nil {
			t.Fatal(err)
		}
		check(r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	l := open(t, Options{Path: path})
	check(l)
	if _, err := appendTo(l, "s/1", 9); !errors.Is(err, eventlog.ErrWrongVersion) {
		t.Errorf("an append that does not know of the journal: %v", err)
	}
	mustAppend(t, l, "s/1", 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// Closed in order, the bbolt file alone is the log.
	if err := os.Remove(journalPath(path)); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, open(t, Options{Path: path}), len(all)+1)
}

// TestDamagedJournal flips bits in a journal: no record is read that was not written,
// what is missing is reported (except the last frame, which may never have been complete),
// and the log continues.
func TestDamagedJournal(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	files, all := crashed(t, 30)
	lostSome := false
	lastFrame := bytes.LastIndex(files.journal, frameMagic)
	for range 200 {
		damaged := images{files.file, bytes.Clone(files.journal)}
		for range 1 + random.IntN(3) {
			bit := random.IntN(len(damaged.journal) * 8)
			if random.IntN(3) == 0 { // a header
				bit = random.IntN(len(damaged.journal)/journalPage)*journalPage*8 + random.IntN(frameHeader*8)
			}
			damaged.journal[bit/8] ^= 1 << (bit % 8)
		}
		path := damaged.place(t)
		l := open(t, Options{Path: path})
		n := 0
		for r, err := range l.Read(t.Context(), 1) {
			var damage *eventlog.DamageError
			switch {
			case errors.As(err, &damage):
			case err != nil:
				t.Fatal(err)
			case !reflect.DeepEqual(r, all[r.Sequence-1]):
				t.Fatalf("record %d was never written", r.Sequence)
			default:
				n++
			}
		}
		last := l.Last()
		if bytes.Equal(damaged.journal[lastFrame:], files.journal[lastFrame:]) && int(last) != len(all) {
			t.Fatalf("the last frame is whole, but the log ends with record %d", last)
		}
		report, err := l.Verify(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case report.OK() != (n == int(last)):
			t.Fatalf("%d records of %d are there, and the report is %+v", n, last, report)
		}
		lostSome = lostSome || n < int(last)
		if r := mustAppend(t, l, "other", 0); r.Sequence != last+1 {
			t.Errorf("after record %d comes %d", last, r.Sequence)
		}
		// Also in the bbolt file it is missing, and said so.
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := open(t, Options{Path: path}).Verify(t.Context())
		if err != nil || again.Records != report.Records+1 || again.OK() != report.OK() {
			t.Fatalf("closed and opened again: %+v, %v; it was %+v", again, err, report)
		}
		os.RemoveAll(filepath.Dir(path))
	}
	if !lostSome {
		t.Error("the test never hits anything")
	}
}

// TestJournalIsGone: without its journal a log that was not closed lacks records. It
// continues, and reports that.
func TestJournalIsGone(t *testing.T) {
	files, _ := crashed(t, 30)
	path := images{file: files.file}.place(t)
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := r.Verify(t.Context()); err != nil || report.OK() {
		t.Errorf("a tool: %+v, %v", report, err)
	}
	r.Close()
	l := open(t, Options{Path: path})
	if report, err := l.Verify(t.Context()); err != nil || report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
	mustAppend(t, l, "other", 0)
	// An older journal is not taken for it.
	again := takeImages(t, path)
	again.journal = files.journal
	l = open(t, Options{Path: again.place(t)})
	if _, err := appendTo(l, "other", 0); err == nil {
		t.Error("the append is forgotten")
	}
	if n, err := drain(l.Read(t.Context(), 1)); err != nil || n != 2 || l.Last() != 2 {
		t.Errorf("%d of %d records, %v; want the first one and that", n, l.Last(), err)
	}
}

// TestMetaPageIsDamaged: the journal counts whichever of the bbolt file's meta pages is left.
func TestMetaPageIsDamaged(t *testing.T) {
	files, all := crashed(t, 30)
	for page := range 2 {
		damaged := images{bytes.Clone(files.file), files.journal}
		clear(damaged.file[page*os.Getpagesize():][:os.Getpagesize()])
		l := open(t, Options{Path: damaged.place(t)})
		if n, err := drain(l.Read(t.Context(), 1)); err != nil || n != len(all) {
			t.Errorf("without meta page %d: %d records of %d, %v", page, n, len(all), err)
		}
	}
}

// TestPassIsDamaged: without the pass, the journal's frames cannot be told from older ones.
func TestPassIsDamaged(t *testing.T) {
	files, _ := crashed(t, 30)
	path := files.place(t)
	corrupt(t, path, bucketMeta, keyJournal, flipFirstBit)
	l := open(t, Options{Path: path})
	if report, err := l.Verify(t.Context()); err != nil || report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
	mustAppend(t, l, "other", 0)
}

// TestJournalIsFull appends more than fits into the journal during reads: readers miss
// nothing when it moves to the bbolt file.
func TestJournalIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	const n = 600
	payload := make([]byte, 30<<10)
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for l.Last() < n {
				next, through := eventlog.Sequence(1), l.Last()
				for r, err := range l.Read(t.Context(), 1) {
					if err != nil || r.Sequence != next {
						t.Errorf("record %d is %d, %v", next, r.Sequence, err)
						return
					}
					next++
				}
				if next <= through {
					t.Errorf("the log had %d records and now has %d", through, next-1)
				}
				s, last := eventlog.Stream(fmt.Sprint("s/", i)), eventlog.Version(0)
				for r, err := range l.ReadStream(t.Context(), s, 1) {
					if err != nil || r.Version != last+1 {
						t.Errorf("%s: after version %d comes %d, %v", s, last, r.Version, err)
						return
					}
					last++
				}
			}
		})
	}
	subscribed := make(chan int)
	go func() {
		count := 0
		for _, err := range l.Subscribe(t.Context(), 1) {
			if count++; err != nil || count == n {
				break
			}
		}
		subscribed <- count
	}()
	commits := l.Stats().Commits
	for i := range n {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: eventlog.Stream(fmt.Sprint("s/", i%3)), Expected: eventlog.Version(i / 3), Entries: []eventlog.Entry{{Type: "t", Payload: payload}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	readers.Wait()
	if got := <-subscribed; got != n {
		t.Errorf("the subscriber got %d records", got)
	}
	if got := l.Stats().Commits - commits; got <= n {
		t.Errorf("%d commits for %d appends: the journal was never emptied", got, n)
	}
	checkWhole(t, l, n)
	// What no journal takes goes the other way.
	big := make([]byte, journalSize+1)
	if _, err := l.Append(t.Context(), eventlog.Append{Stream: "big", Entries: []eventlog.Entry{{Type: "t", Payload: big}}}); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, open(t, Options{Path: takeImages(t, path).place(t)}), n+1)
}

// TestJournalIsEmptiedInTime: before an append has to wait for that.
func TestJournalIsEmptiedInTime(t *testing.T) {
	l := open(t, Options{Path: filepath.Join(t.TempDir(), "events.db")})
	payload := make([]byte, 100<<10)
	for v := eventlog.Version(0); v < 3+emptyAt/eventlog.Version(len(payload)); v++ {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: payload}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); len(l.recent.all()) > 5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records are in the journal", len(l.recent.all()))
		}
	}
}

// journalFailure says what happens when a frame is written.
type journalFailure struct{ written, commits, begins, durable bool }

// doubtful is a disk whose journal fails, and perhaps more, while the test says so.
type doubtful struct {
	journalFailure
	log *Log

	mu    sync.Mutex
	fails bool
}

func (d *doubtful) set(fails bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

func (d *doubtful) commit(tx *bolt.Tx) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails && !d.commits {
		return errors.New("no")
	}
	return commit(tx)
}

func (d *doubtful) write(f *os.File, frame []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.fails {
		return writeFrame(f, frame, at)
	}
	if !d.begins {
		d.log.store.abandon(d.log.store.current())
	}
	if d.written {
		if err := writeFrame(f, frame, at); err != nil {
			return err
		}
	}
	return errors.New("who knows")
}

// TestJournalFails: an append whose frame may be on the disk or not goes to the bbolt file,
// and if that fails as well, the answer is what the disk has.
func TestJournalFails(t *testing.T) {
	for name, c := range map[string]journalFailure{
		"and nothing was written":                      {false, true, true, true},
		"and everything was written":                   {true, true, true, true},
		"nothing was written, nor can it be":           {false, false, true, false},
		"everything was written, commits fail":         {true, false, true, true},
		"nothing was written, the file is gone":        {false, true, false, false},
		"everything was written, and the file is gone": {true, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &doubtful{journalFailure: c}
			path := filepath.Join(t.TempDir(), "events.db")
			l, err := openWith(Options{Path: path}, disk{commit: d.commit, write: d.write, sync: syncFrames})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			d.log = l
			mustAppend(t, l, "s", 0)
			mustAppend(t, l, "s", 1)
			d.set(true)
			_, err = appendTo(l, "s", 2)
			if c.durable != (err == nil) || err != nil && !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("the answer is %v", err)
			}
			d.set(false)
			waitHealthy(t, l)
			next := eventlog.Version(2)
			if c.durable {
				next = 3
			}
			for v := next; v < next+3; v++ {
				mustAppend(t, l, "s", v)
			}
			checkWhole(t, l, int(next)+3)
			checkWhole(t, open(t, Options{Path: takeImages(t, path).place(t)}), int(next)+3)
		})
	}
}

// TestDegraded: Health reports a journal that was given up; a restart uses it again.
func TestDegraded(t *testing.T) {
	l, f, path := openFailing(t)
	mustAppend(t, l, "s", 0)
	if err := l.Health(); err != nil {
		t.Errorf("before: %v", err)
	}
	f.noJournal.Store(true)
	mustAppend(t, l, "s", 1)
	f.noJournal.Store(false)
	mustAppend(t, l, "s", 2)
	if err := l.Health(); !errors.Is(err, eventlog.ErrDegraded) || !errors.Is(err, syscall.EIO) || errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("after the journal's failure: %v", err)
	}
	l.Close()
	l = open(t, Options{Path: path})
	mustAppend(t, l, "s", 3)
	if err := l.Health(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// TestFrameHeader pins the format, which other versions of this program must read.
func TestFrameHeader(t *testing.T) {
	pass := passID([]byte("0123456789abcdef"))
	got := fmt.Sprintf("%q", inUse(appendFrame(nil, pass, 258, [][]byte{[]byte("record")})))
	if want := `"stele/j20123456789abcdef\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\a\xf0\x8f\xd5\xc4\x06record"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestFrame: a frame is read as it was written, or not at all.
func TestFrame(t *testing.T) {
	pass := newPass()
	var want []eventlog.Record
	var values [][]byte
	for s := range eventlog.Sequence(3) {
		r := eventlog.Record{Sequence: s + 1, Stream: "s", Version: eventlog.Version(s + 1), Time: time.Unix(0, 7).UTC(), Entry: eventlog.Entry{Type: "t", Payload: []byte("payload")}}
		want, values = append(want, r), append(values, appendRecord(nil, &r))
	}
	frame := appendFrame(nil, pass, 0, values)
	if len(frame) != journalPage {
		t.Errorf("it has %d bytes", len(frame))
	}
	got, ok := parseFrame(append(bytes.Clone(frame), "more"...), pass, &recordDecoder{})
	if !ok || got.size != len(frame) || !reflect.DeepEqual(got.records, want) {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := parseFrame(frame, newPass(), &recordDecoder{}); ok {
		t.Error("it is taken for one of another pass")
	}
	used := len(inUse(frame))
	for bit := range used * 8 {
		frame[bit/8] ^= 1 << (bit % 8)
		if _, ok := parseFrame(frame, pass, &recordDecoder{}); ok {
			t.Errorf("bit %d of byte %d makes no difference", bit%8, bit/8)
		}
		frame[bit/8] ^= 1 << (bit % 8)
	}
	for n := range used {
		if _, ok := parseFrame(frame[:n], pass, &recordDecoder{}); ok {
			t.Errorf("the first %d bytes are enough", n)
		}
	}
}

// TestJournalCannotBeMade: the log works without one.
func TestJournalCannotBeMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	if err := os.Mkdir(journalPath(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Path: path})
	for v := range eventlog.Version(5) {
		mustAppend(t, l, "s", v)
	}
	if n := len(l.recent.all()); n > 0 {
		t.Errorf("%d records are in a journal", n)
	}
	checkWhole(t, open(t, Options{Path: images{file: pagesInUse(t, path)}.place(t)}), 5)
}

// TestConformanceWithoutJournal: the log's promises do not depend on it.
func TestConformanceWithoutJournal(t *testing.T) {
	opened := func(t testing.TB, path string, c eventlog.Clock) eventlog.Log {
		l, err := openWith(Options{Path: path, BootID: logtest.BootID, Clock: c},
			disk{commit: commit, write: func(*os.File, []byte, int64) error { return errors.New("no journal here") }, sync: syncFrames})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	logtest.Run(t, logtest.Maker{
		New: func(t testing.TB, c eventlog.Clock) eventlog.Log {
			return opened(t, filepath.Join(t.TempDir(), "events.db"), c)
		},
		Reopen: func(t testing.TB, l eventlog.Log, c eventlog.Clock) eventlog.Log {
			path := l.(*Log).store.opener.path
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return opened(t, path, c)
		},
		OpenBackup: openBackup,
	})
}
