package logtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

func testReadFrom(t *testing.T, m Maker) {
	l := m.open(t)
	// More than any log would read in one piece.
	var records []eventlog.Record
	for v := eventlog.Version(0); v < 3000; v += 500 {
		entries := make([]eventlog.Entry, 500)
		for i := range entries {
			entries[i] = entry(int(v) + i)
		}
		records = append(records, put(t, l, "s", v, entries...)...)
	}
	for _, from := range []int{0, 1, 2, 511, 512, 513, 1024, 2999, 3000, 3001, 9999} {
		want := records[min(max(from-1, 0), len(records)):]
		if got := collect(t, l.Read(t.Context(), eventlog.Sequence(from))); !equal(got, want) {
			t.Errorf("Read from %d: %d records, want %d", from, len(got), len(want))
		}
		if got := collect(t, l.ReadStream(t.Context(), "s", eventlog.Version(from))); !equal(got, want) {
			t.Errorf("ReadStream from %d: %d records, want %d", from, len(got), len(want))
		}
		n := min(3, len(want))
		if got := take(t, n, l.Read(t.Context(), eventlog.Sequence(from))); !equal(got, want[:n]) {
			t.Errorf("Read from %d stopped after %d: %v", from, n, got)
		}
		if got := take(t, n, l.ReadStream(t.Context(), "s", eventlog.Version(from))); !equal(got, want[:n]) {
			t.Errorf("ReadStream from %d stopped after %d: %v", from, n, got)
		}
	}
	for range l.Read(t.Context(), ^eventlog.Sequence(0)) {
		t.Errorf("Read from the largest number yields something")
	}
	for range l.ReadStream(t.Context(), "s", ^eventlog.Version(0)) {
		t.Errorf("ReadStream from the largest number yields something")
	}
	// An iterator can be used again.
	all := l.Read(t.Context(), 1)
	if first, second := collect(t, all), collect(t, all); !equal(first, second) {
		t.Errorf("the second use of an iterator yields something else")
	}
}

func equal(a, b []eventlog.Record) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// testReadEnds appends one record for each that is read.
func testReadEnds(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 10, "s")
	v := eventlog.Version(10)
	for name, records := range map[string]iter.Seq2[eventlog.Record, error]{
		"Read":       l.Read(t.Context(), 1),
		"ReadStream": l.ReadStream(t.Context(), "s", 1),
	} {
		want, n := int(l.Last()), 0
		for _, err := range records {
			if err != nil {
				t.Fatal(err)
			}
			put(t, l, "s", v, entry(0))
			v++
			if n++; n > want {
				t.Fatalf("%s goes on beyond the %d records that were there", name, want)
			}
		}
		if n != want {
			t.Errorf("%s: %d records, want %d", name, n, want)
		}
	}
}

func testReadContext(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 10, "s")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := end(l.Read(ctx, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %d records, then %v", n, err)
	}
	if n, err := end(l.ReadStream(ctx, "s", 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("ReadStream: %d records, then %v", n, err)
	}
	if _, err := l.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
	if _, _, err := l.LoadCheckpoint(ctx, "s"); !errors.Is(err, context.Canceled) {
		t.Errorf("LoadCheckpoint: %v", err)
	}
}

func testSubscribe(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 20, "a", "b")
	next, stop := iter.Pull2(l.Subscribe(timeout(t), 0))
	defer stop()
	for i := range 40 {
		if i >= len(records) { // the subscriber has caught up
			records = append(records, put(t, l, "c", eventlog.Version(i-20), entry(i))...)
		}
		r, err, ok := next()
		if !ok || err != nil || !reflect.DeepEqual(r, records[i]) {
			t.Fatalf("record %d: got %+v, %v, %v", i+1, r, err, ok)
		}
	}
	for _, from := range []int{1, 2, 20, 39, 40} {
		want := records[from-1:]
		if got := take(t, len(want), l.Subscribe(timeout(t), eventlog.Sequence(from))); !equal(got, want) {
			t.Errorf("from %d: %d records, want %d", from, len(got), len(want))
		}
	}
	// From a record that doesn't exist yet.
	ahead, stopAhead := iter.Pull2(l.Subscribe(timeout(t), 42))
	defer stopAhead()
	put(t, l, "d", 0, entry(0), entry(1), entry(2))
	for want := eventlog.Sequence(42); want <= 43; want++ {
		if r, err, _ := ahead(); err != nil || r.Sequence != want {
			t.Errorf("ahead of the log: record %d, %v; want %d", r.Sequence, err, want)
		}
	}
}

// testSubscribeConcurrently lets subscribers join at random places and times
// while several writers write.
func testSubscribeConcurrently(t *testing.T, m Maker) {
	l := m.open(t)
	const writers, each, subscribers, total = 4, 100, 12, 400
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			s := eventlog.Stream(fmt.Sprintf("writer/%d", w))
			for v := range eventlog.Version(each) {
				if _, err := l.Append(context.Background(), eventlog.Append{Stream: s, Expected: v, Entries: []eventlog.Entry{entry(int(v))}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ctx := timeout(t)
	for range subscribers {
		from := eventlog.Sequence(1 + rand.IntN(total))
		when := eventlog.Sequence(rand.IntN(total))
		wg.Go(func() {
			for range l.Subscribe(ctx, max(when, 1)) {
				break // now the log has got so far
			}
			want := from
			for r, err := range l.Subscribe(ctx, from) {
				if err != nil || r.Sequence != want {
					t.Errorf("subscriber from %d, joined at %d: got record %d, %v; want %d", from, when, r.Sequence, err, want)
					return
				}
				if want++; want > total {
					return
				}
			}
		})
	}
	wg.Wait()
}

// testSlowSubscriber has a subscriber that pauses: appends continue, and it
// misses nothing.
func testSlowSubscriber(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "s", 0, entry(0))
	next, stop := iter.Pull2(l.Subscribe(timeout(t), 1))
	defer stop()
	if r, err, _ := next(); err != nil || r.Sequence != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	big := make([]byte, 64<<10)
	for v := eventlog.Version(1); v < 200; v++ {
		put(t, l, "s", v, eventlog.Entry{Type: "big", Payload: big})
	}
	for want := eventlog.Sequence(2); want <= 200; want++ {
		if r, err, _ := next(); err != nil || r.Sequence != want {
			t.Fatalf("got %d, %v; want %d", r.Sequence, err, want)
		}
	}
}

func testSubscribeContext(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 3, "s")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	for _, err := range l.Subscribe(ctx, 1) {
		if n++; n == 3 {
			cancel() // the next record will never come
		}
		if n == 4 && !errors.Is(err, context.Canceled) {
			t.Errorf("the subscription ends with %v", err)
		}
	}
	if n != 4 {
		t.Errorf("%d results, want three records and an error", n)
	}
}
