package logtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

// places returns what Places yields.
func places(t testing.TB, l eventlog.Log) map[eventlog.Stream]string {
	t.Helper()
	all := map[eventlog.Stream]string{}
	for p, err := range l.Places(t.Context()) {
		if err != nil {
			t.Fatalf("places: %v", err)
		}
		if _, again := all[p.Stream]; again {
			t.Errorf("%s comes twice", p.Stream)
		}
		all[p.Stream] = fmt.Sprint(p.Sequences)
	}
	return all
}

// places is where a reader finds the records.
func (m *model) places() map[eventlog.Stream]string {
	sequences := map[eventlog.Stream][]eventlog.Sequence{}
	for _, r := range m.records {
		sequences[r.Stream] = append(sequences[r.Stream], r.Sequence)
	}
	all := map[eventlog.Stream]string{}
	for s, its := range sequences {
		all[s] = fmt.Sprint(its)
	}
	return all
}

// testPlaces has more entries in the index than a log would read in one piece.
func testPlaces(t *testing.T, m Maker) {
	l := m.open(t)
	m2 := &model{}
	const streams, each = 60, 300
	for v := 0; v < each; v += 100 {
		for s := range streams {
			entries := make([]eventlog.Entry, 100)
			for i := range entries {
				entries[i] = eventlog.Entry{Type: "t"}
			}
			name := eventlog.Stream(fmt.Sprint("stream/", s))
			records, err := l.Append(t.Context(), eventlog.Append{Stream: name, Expected: eventlog.Version(v), Entries: entries, Volatile: true})
			if err != nil {
				t.Fatal(err)
			}
			m2.records = append(m2.records, records...)
		}
	}
	check := func(when string) {
		t.Helper()
		got, want := places(t, l), m2.places()
		if len(got) != len(want) {
			t.Errorf("%s: %d streams, want %d", when, len(got), len(want))
		}
		for s := range want {
			if got[s] != want[s] {
				t.Errorf("%s: the records of %s are at %.100s…, want %.100s…", when, s, got[s], want[s])
			}
		}
	}
	check("at first")
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	m2.records = append(m2.records, put(t, l, "stream/7", each, entry(0))...)
	m2.records = append(m2.records, put(t, l, "new", 0, entry(0))...)
	check("after another append")
	n := 0
	for range l.Places(t.Context()) {
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Places(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("without a context: %v", err)
		}
	}
}

func testReadAt(t *testing.T, m Maker) {
	l := m.open(t)
	var all []eventlog.Record
	for v := 0; v < 1500; v += 500 {
		entries := make([]eventlog.Entry, 500)
		for i := range entries {
			entries[i] = entry(v + i)
		}
		all = append(all, put(t, l, "s", eventlog.Version(v), entries...)...)
	}
	l = m.Reopen(t, l, NewClock())
	for i := range 3 { // not yet where the others are
		all = append(all, put(t, l, "s", eventlog.Version(1500+i), entry(i))...)
	}
	for _, step := range []int{1, 2, 7, 700} {
		var sequences []eventlog.Sequence
		var want []eventlog.Record
		for i := step - 1; i < len(all); i += step {
			sequences, want = append(sequences, all[i].Sequence), append(want, all[i])
		}
		if got := collect(t, l.ReadAt(t.Context(), sequences)); !equal(got, want) {
			t.Errorf("each %dth record: %d records, want %d", step, len(got), len(want))
		}
		n := min(2, len(want))
		if got := take(t, n, l.ReadAt(t.Context(), sequences)); !equal(got, want[:n]) {
			t.Errorf("each %dth record, stopped after %d: %v", step, n, got)
		}
	}
	if got := collect(t, l.ReadAt(t.Context(), nil)); len(got) > 0 {
		t.Errorf("no record: %v", got)
	}
	thin(t, l, "age", 4, 5, 8)
	same(t, "across removed ones", walk(t, l.ReadAt(t.Context(), []eventlog.Sequence{3, 4, 5, 7, 8, 1502, 1503})),
		"3=s/3", "4-5 (2 by age)", "7=s/7", "8-8 (1 by age)", "1502=s/1502", "1503=s/1503")
	_, err := end(l.ReadAt(t.Context(), []eventlog.Sequence{1503, 1504}))
	if damage, is := errors.AsType[*eventlog.DamageError](err); !is || damage.Sequence != 1504 {
		t.Errorf("a record that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := end(l.ReadAt(ctx, []eventlog.Sequence{1})); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("without a context: %d records, then %v", n, err)
	}
}
