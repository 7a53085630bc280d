package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

// savedPairs is a checkpoint with all its pairs.
type savedPairs struct {
	eventlog.Checkpoint
	pairs map[string]string
}

// with is the checkpoint after a delta.
func (s savedPairs) with(d eventlog.Delta) savedPairs {
	after := savedPairs{d.Checkpoint, make(map[string]string)}
	if !d.Replace {
		maps.Copy(after.pairs, s.pairs)
	}
	for key, value := range d.Put {
		after.pairs[key] = string(value)
	}
	for _, key := range d.Delete {
		delete(after.pairs, key)
	}
	return after
}

// load reads a checkpoint, which must exist and be sound.
func load(t testing.TB, l eventlog.Reader, name string) savedPairs {
	t.Helper()
	saved, found, err := l.LoadCheckpoint(t.Context(), name)
	if err != nil || !found {
		t.Fatalf("checkpoint %q: found %v, %v", name, found, err)
	}
	s := savedPairs{saved.Checkpoint, make(map[string]string)}
	last := ""
	for pair, err := range saved.Pairs {
		if err != nil {
			t.Fatalf("checkpoint %q: %v", name, err)
		}
		if pair.Key <= last || pair.Value == nil {
			t.Fatalf("checkpoint %q: %q comes after %q, with %v", name, pair.Key, last, pair.Value)
		}
		last = pair.Key
		s.pairs[pair.Key] = string(pair.Value)
	}
	return s
}

func at(sequence eventlog.Sequence) eventlog.Checkpoint {
	return eventlog.Checkpoint{Sequence: sequence, Schema: uint32(sequence) + 1}
}

func testCheckpoints(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 5, "s")
	want := make(map[string]savedPairs)
	check := func(when string) {
		t.Helper()
		for name, saved := range want {
			if got := load(t, l, name); !reflect.DeepEqual(got, saved) {
				t.Errorf("%s: %q: got %d pairs %+v, want %d %+v", when, name, len(got.pairs), got.Checkpoint, len(saved.pairs), saved.Checkpoint)
			}
		}
		if _, found, err := l.LoadCheckpoint(t.Context(), "none"); found || err != nil {
			t.Errorf("%s: found one that was not saved: %v, %v", when, found, err)
		}
	}
	for i, c := range []struct {
		name  string
		delta eventlog.Delta
	}{
		{"empty", eventlog.Delta{}},
		{"pods", eventlog.Delta{Checkpoint: at(3), Put: map[string][]byte{"a": []byte("1"), "b": {}, "c/d": []byte("3")}}},
		{"pod", eventlog.Delta{Checkpoint: at(3), Replace: true, Put: map[string][]byte{"s": []byte("other")}}},
		{"large", eventlog.Delta{Checkpoint: at(5), Put: map[string][]byte{"v": make([]byte, 3<<20)}}},
		{"pods", eventlog.Delta{Checkpoint: at(4), After: 3, Put: map[string][]byte{"a": []byte("2")}, Delete: []string{"b", "not-there"}}},
		{"pods", eventlog.Delta{Checkpoint: at(4), After: 4, Put: map[string][]byte{"b": []byte("again")}}},
		{"large", eventlog.Delta{Checkpoint: at(5), After: 5, Put: map[string][]byte{"v": []byte("small"), "w": {0}}}},
		{"pod", eventlog.Delta{Checkpoint: at(2), Replace: true, Put: map[string][]byte{"t": nil}}},
		{"empty", eventlog.Delta{Checkpoint: at(1), Replace: true}},
	} {
		if err := l.SaveCheckpoint(t.Context(), c.name, c.delta); err != nil {
			t.Fatal(i, err)
		}
		want[c.name] = want[c.name].with(c.delta)
		check(fmt.Sprintf("after step %d", i))
	}
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	if l.Last() != 5 {
		t.Errorf("Last() = %d; checkpoints are no records", l.Last())
	}
}

func testStaleCheckpoint(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 5, "s")
	first := eventlog.Delta{Checkpoint: at(3), Put: map[string][]byte{"a": []byte("1")}}
	if err := l.SaveCheckpoint(t.Context(), "x", first); err != nil {
		t.Fatal(err)
	}
	many := make(map[string][]byte)
	for i := range 1000 {
		many[fmt.Sprint(i)] = nil
	}
	for name, d := range map[string]eventlog.Delta{
		"of none":            {Checkpoint: at(4), Put: first.Put},
		"of another":         {Checkpoint: at(4), After: 2, Put: first.Put},
		"of another, large":  {Checkpoint: at(4), After: 4, Put: many},
		"of none, and large": {Checkpoint: at(4), Put: many},
	} {
		if err := l.SaveCheckpoint(t.Context(), "x", d); !errors.Is(err, eventlog.ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.SaveCheckpoint(t.Context(), "new", eventlog.Delta{Checkpoint: at(4), After: 4}); !errors.Is(err, eventlog.ErrStale) {
		t.Errorf("one that does not exist: %v", err)
	}
	if got := load(t, l, "x"); !reflect.DeepEqual(got, savedPairs{}.with(first)) {
		t.Errorf("it is %+v", got)
	}
}

// testLargeCheckpoint makes changes of each kind that no log writes in one piece.
func testLargeCheckpoint(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 9, "s")
	var want savedPairs
	save := func(d eventlog.Delta) {
		t.Helper()
		if err := l.SaveCheckpoint(t.Context(), "x", d); err != nil {
			t.Fatal(err)
		}
		want = want.with(d)
		if got := load(t, l, "x"); !reflect.DeepEqual(got, want) {
			t.Fatalf("at %d: %d pairs, want %d, or they differ", got.Sequence, len(got.pairs), len(want.pairs))
		}
	}
	pairs := func(from, to, size int) map[string][]byte {
		all := make(map[string][]byte)
		for i := from; i < to; i++ {
			all[fmt.Sprint("key/", i)] = bytes.Repeat([]byte{byte(i), byte(size)}, size/2)
		}
		return all
	}
	save(eventlog.Delta{Checkpoint: at(1), Put: pairs(0, 2000, 1000)})
	gone := eventlog.Delta{Checkpoint: at(2), After: 1, Put: pairs(1500, 2500, 500)}
	for i := range 700 {
		gone.Delete = append(gone.Delete, fmt.Sprint("key/", i), fmt.Sprint("none/", i))
	}
	save(gone)
	save(eventlog.Delta{Checkpoint: at(3), After: 2, Put: pairs(0, 10, 10), Delete: []string{"key/2000"}})
	l = m.Reopen(t, l, NewClock())
	save(eventlog.Delta{Checkpoint: at(4), After: 3, Put: pairs(100, 1100, 20)})
	save(eventlog.Delta{Checkpoint: at(3), Replace: true, Put: pairs(50, 1000, 700)})
	save(eventlog.Delta{Checkpoint: at(5), After: 3, Delete: []string{"key/50"}})
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Checkpoints != 1 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func testBadDeltas(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 3, "s")
	long := strings.Repeat("x", eventlog.MaxName+1)
	for name, d := range map[string]eventlog.Delta{
		"of the future":          {Checkpoint: at(4)},
		"of the future, instead": {Checkpoint: at(4), Replace: true},
		"going back":             {Checkpoint: at(1), After: 2},
		"no key":                 {Put: map[string][]byte{"": nil}},
		"a long key":             {Put: map[string][]byte{long: nil}},
		"a zero byte in a key":   {Delete: []string{"a\x00b"}},
		"a long key to delete":   {Delete: []string{long}},
		"put and deleted":        {Put: map[string][]byte{"a": nil}, Delete: []string{"a"}},
		"replaced and deleted":   {Replace: true, Delete: []string{"a"}},
		"replaced after one":     {Checkpoint: at(2), Replace: true, After: 1},
		"a large value":          {Put: map[string][]byte{"a": make([]byte, eventlog.MaxValue+1)}},
	} {
		if err := l.SaveCheckpoint(t.Context(), "x", d); !errors.Is(err, eventlog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, found, err := l.LoadCheckpoint(t.Context(), "x"); found || err != nil {
		t.Errorf("bad deltas made a checkpoint: %v, %v", found, err)
	}
}

// testAppendsWhileSaving reads and appends during large changes.
func testAppendsWhileSaving(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "s", 0, entry(0))
	ended := make(chan error, 1)
	const rounds, keys = 5, 1000
	go func() {
		for round := range rounds {
			d := eventlog.Delta{Checkpoint: at(1), After: 1, Put: make(map[string][]byte)}
			if round == 0 {
				d.After, d.Replace = 0, true
			}
			for i := range keys {
				d.Put[fmt.Sprint(i)] = bytes.Repeat([]byte{byte(round)}, 500)
			}
			if err := l.SaveCheckpoint(context.Background(), "x", d); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for v := eventlog.Version(1); ; v++ {
		put(t, l, "s", v, entry(int(v)))
		checkOneRound(t, l, keys)
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			if got := load(t, l, "x"); got.pairs["0"][0] != rounds-1 {
				t.Errorf("the last change is not there")
			}
			return
		default:
		}
	}
}

// checkOneRound reads a checkpoint that is being saved: all pairs belong to one saving.
func checkOneRound(t *testing.T, l eventlog.Log, want int) {
	t.Helper()
	saved, found, err := l.LoadCheckpoint(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return // not yet
	}
	n, round := 0, -1
	for pair, err := range saved.Pairs {
		switch {
		case errors.Is(err, eventlog.ErrStale):
			return
		case err != nil:
			t.Fatal(err)
		case round == -1:
			round = int(pair.Value[0])
		case round != int(pair.Value[0]):
			t.Fatalf("key %q is of round %d, others are of %d", pair.Key, pair.Value[0], round)
		}
		n++
	}
	if n != want {
		t.Fatalf("%d pairs, want %d", n, want)
	}
}
