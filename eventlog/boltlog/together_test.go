package boltlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// small is how many records each of the streams of fillSmall has.
const small = 20

// fillSmall makes streams of a few records each, among them one that was thinned out.
func fillSmall(t *testing.T, l *Log, streams int) (names []eventlog.Stream) {
	t.Helper()
	for i := range streams {
		s := eventlog.Stream(fmt.Sprintf("pod/%03d", i))
		a := eventlog.Append{Stream: s}
		for range small {
			a.Entries = append(a.Entries, eventlog.Entry{Type: "t"})
		}
		if _, err := l.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		names = append(names, s)
	}
	if err := l.Thin(t.Context(), eventlog.Thin{Sequences: []eventlog.Sequence{2, 3, 7}, Rule: "settled"}); err != nil {
		t.Fatal(err)
	}
	return names
}

// waiting has requests wait for the writer together, and returns when they are answered.
func waiting(l *Log, requests ...*request) {
	held, release := make(chan struct{}), make(chan struct{})
	l.AppendAsync(eventlog.Append{}, func([]eventlog.Record, error) { // it is refused, by the writer
		close(held)
		<-release
	})
	<-held
	var all sync.WaitGroup
	for _, r := range requests {
		all.Add(1)
		r.done = func(_ []eventlog.Record, err error) {
			r.err = err
			all.Done()
		}
		l.submit(r)
	}
	close(release)
	all.Wait()
}

// trimOf is a request for a trim, as Trim makes it.
func trimOf(l *Log, t eventlog.Trim) *request {
	under := removing{rule: t.Rule, at: l.writer.stamp().wall, stream: t.Stream, through: t.Through, whole: t.Whole}
	return &request{change: &removal{trim: t, under: under, bulk: l.bulkOf(context.Background(), t)}}
}

func wholes(l *Log, names []eventlog.Stream) (requests []*request) {
	for _, s := range names {
		requests = append(requests, trimOf(l, eventlog.Trim{Stream: s, Through: small, Whole: true, Rule: "age"}))
	}
	return requests
}

// TestSmallTrimsTogether: small trims that wait share transactions, none of which changes more than a
// piece; and one that is refused costs the others nothing.
func TestSmallTrimsTogether(t *testing.T) {
	f := &failing{}
	path := filepath.Join(t.TempDir(), "events.db")
	l, err := openWith(Options{Path: path}, f.disk(path))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := fillSmall(t, l, 50)
	requests := wholes(l, names[:48])
	wrong := trimOf(l, eventlog.Trim{Stream: names[48], Through: small - 1, Whole: true, Rule: "age"})
	prefix := trimOf(l, eventlog.Trim{Stream: names[49], Through: small - 5, State: []byte("a state"), Rule: "size"})
	requests = append(requests, prefix)
	requests = append(requests[:7:7], append([]*request{wrong}, requests[7:]...)...)
	before := f.calls.Load()
	waiting(l, requests...)
	for _, r := range requests {
		if (r.err != nil) != (r == wrong) {
			t.Errorf("%+v: %v", r.change.(*removal).trim, r.err)
		}
	}
	if !errors.Is(wrong.err, eventlog.ErrWrongVersion) {
		t.Errorf("of a stream that goes on: %v", wrong.err)
	}
	// Three streams of 20 records are within the bound; a commit with a pass of the journal is two.
	if got, most := int(f.calls.Load()-before), 2*(49/(togetherEntries/small)+1); got > most {
		t.Errorf("%d commits, want %d at most", got, most)
	}
	left := map[eventlog.Stream]int{names[48]: small, names[49]: 5}
	for _, s := range names {
		if got, err := drain(l.ReadStream(t.Context(), s, 1)); err != nil || got != left[s] {
			t.Errorf("%q has %d records, %v; want %d", s, got, err, left[s])
		}
	}
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Removed["age"] != 48*small-3 || report.Removed["settled"] != 3 || report.Removed["size"] != small-5 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	if info, _, err := l.Stream(t.Context(), names[49]); err != nil || info.Base.Version != small-5 || string(info.Base.State) != "a state" {
		t.Errorf("%+v, %v", info, err)
	}
	mustAppend(t, l, names[0], 0)
	mustAppend(t, l, names[49], small)
}

// TestSmallTrimsAreAllOrNothing stops them after each transaction, as a kill does.
func TestSmallTrimsAreAllOrNothing(t *testing.T) {
	const n = 40
	var names []eventlog.Stream
	paths := stopped(t, func(l *Log) { names = fillSmall(t, l, n) }, func(l *Log) { waiting(l, wholes(l, names)...) })
	if len(paths) < 4 || len(paths) > n {
		t.Errorf("the trims took %d commits", len(paths))
	}
	left := n
	for i, path := range paths {
		there := 0
		l := open(t, Options{Path: path})
		for at, s := range names {
			got, err := drain(l.ReadStream(t.Context(), s, 1))
			if err != nil || got != 0 && got != small && (at > 0 || got != small-3) {
				t.Fatalf("stopped after commit %d: %q has %d records, %v", i+1, s, got, err)
			}
			if _, exists, err := l.Stream(t.Context(), s); err != nil || exists != (got > 0) {
				t.Fatalf("stopped after commit %d: %q exists: %t, %v", i+1, s, exists, err)
			}
			if got > 0 {
				there++
			}
		}
		if there > left {
			t.Errorf("stopped after commit %d: %d streams, after %d", i+1, there, left)
		}
		left = there
		if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Removed["age"] > uint64((n-there)*small) {
			t.Fatalf("stopped after commit %d: verify: %+v, %v", i+1, report, err)
		}
		l.Close()
	}
	if left > 0 {
		t.Errorf("%d streams are left", left)
	}
}

// TestSmallTrimFails: a small trim gets the true answer, too.
func TestSmallTrimFails(t *testing.T) {
	l, f, _ := openFailing(t)
	names := fillSmall(t, l, 2)
	trim := eventlog.Trim{Stream: names[0], Through: small, Whole: true, Rule: "age"}
	f.mode.Store(commitsAreLost)
	if err := l.Trim(t.Context(), trim); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("lost: %v", err)
	}
	f.mode.Store(commitsWork)
	waitHealthy(t, l)
	if _, exists, err := l.Stream(t.Context(), names[0]); !exists || err != nil {
		t.Errorf("lost, but it exists: %t, %v", exists, err)
	}
	f.mode.Store(commitsAreThere)
	if err := l.Trim(t.Context(), trim); err != nil {
		t.Errorf("there: %v", err)
	}
	f.mode.Store(commitsWork)
	waitHealthy(t, l)
	if _, exists, err := l.Stream(t.Context(), names[0]); exists || err != nil {
		t.Errorf("there, but it exists: %t, %v", exists, err)
	}
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestEmptiedPages: what a transaction has removed from whole pages hides nothing of what is left.
func TestEmptiedPages(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const n = 4000 // of some 40 pages
	name := []byte("b")
	if err := db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(name)
		for i := eventlog.Sequence(1); i <= n && err == nil; i++ {
			err = b.Put(recordKey(2*i), make([]byte, 20))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for what, gone := range map[string][2]eventlog.Sequence{
		"none": {1, 0}, "the middle": {500, 3500}, "the beginning": {1, 3000}, "the end": {1000, n}, "all": {1, n},
	} {
		_ = db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(name)
			for i := gone[0]; i <= gone[1]; i++ {
				if err := b.Delete(recordKey(2 * i)); err != nil {
					t.Fatal(err)
				}
			}
			before := eventlog.Sequence(0) // the last one that is left
			for i := eventlog.Sequence(1); i <= n+1; i++ {
				for _, key := range []eventlog.Sequence{2*i - 1, 2 * i} {
					k, _ := pairBefore(b.Cursor(), recordKey(key))
					if got, _ := parseRecordKey(k); got != before {
						t.Fatalf("%s is removed: %d comes before %d, not %d", what, got, key, before)
					}
				}
				if i <= n && (i < gone[0] || i > gone[1]) {
					before = 2 * i
				}
			}
			k, _ := lastPair(b.Cursor())
			if got, _ := parseRecordKey(k); got != before {
				t.Fatalf("%s is removed: the last one is %d, not %d", what, got, before)
			}
			return errors.New("undo it")
		})
	}
}
