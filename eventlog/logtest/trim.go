package logtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

func trim(t testing.TB, l eventlog.Log, what eventlog.Trim) {
	t.Helper()
	if err := l.Trim(t.Context(), what); err != nil {
		t.Fatalf("trim %q through %d: %v", what.Stream, what.Through, err)
	}
}

// without returns the records that a trim leaves.
func without(records []eventlog.Record, what eventlog.Trim) (left []eventlog.Record) {
	for _, r := range records {
		if r.Stream != what.Stream || r.Version > what.Through {
			left = append(left, r)
		}
	}
	return left
}

func testTrimWhole(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 90, "a", "b", "ab")
	gone := eventlog.Trim{Stream: "b", Rule: "age", Through: 30, Whole: true}
	trim(t, l, gone)
	left := without(records, gone)
	check := func(l eventlog.Log, when string) {
		t.Helper()
		if got := collect(t, l.Read(t.Context(), 1)); !equal(got, left) {
			t.Errorf("%s: the log has %s", when, list(got))
		}
		if got := collect(t, l.ReadStream(t.Context(), "b", 1)); len(got) != 0 {
			t.Errorf("%s: the stream has %s", when, list(got))
		}
		if info, found, err := l.Stream(t.Context(), "b"); found || err != nil {
			t.Errorf("%s: %+v, %v", when, info, err)
		}
		if l.Last() != 90 {
			t.Errorf("%s: Last() = %d", when, l.Last())
		}
		report, err := l.Verify(t.Context())
		if err != nil || !report.OK() || report.Records != 60 || report.Removed["age"] != 30 || report.Streams != 2 {
			t.Errorf("%s: verify: %+v, %v", when, report, err)
		}
	}
	check(l, "trimmed")
	l = m.Reopen(t, l, NewClock())
	check(l, "after a restart")
	// From inside the hole, and live.
	next, stop := iter.Pull2(l.Subscribe(timeout(t), 89))
	defer stop()
	if _, err, _ := next(); !errors.Is(err, eventlog.ErrRemoved) {
		t.Errorf("a subscriber from a hole gets %v", err)
	}
	if r, err, _ := next(); err != nil || r.Sequence != 90 {
		t.Errorf("a subscriber from a hole gets %d, %v", r.Sequence, err)
	}
	again := put(t, l, "b", 0, entry(0))
	if again[0].Sequence != 91 || again[0].Version != 1 {
		t.Errorf("it begins anew with %+v", again[0])
	}
	if r, err, _ := next(); err != nil || r.Sequence != 91 {
		t.Errorf("and then %d, %v", r.Sequence, err)
	}
	if got := collect(t, l.ReadStream(t.Context(), "b", 1)); !equal(got, again) {
		t.Errorf("it has %s", list(got))
	}
}

// testTrimAll leaves nothing but holes, also at the log's end.
func testTrimAll(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 6, "a", "b")
	trim(t, l, eventlog.Trim{Stream: "a", Rule: "age", Through: 3, Whole: true})
	trim(t, l, eventlog.Trim{Stream: "b", Rule: "age", Through: 3, Whole: true})
	for _, when := range []string{"trimmed", "after a restart"} {
		if got := collect(t, l.Read(t.Context(), 1)); len(got) != 0 || l.Last() != 6 {
			t.Errorf("%s: %s, Last() = %d", when, list(got), l.Last())
		}
		l = m.Reopen(t, l, NewClock())
	}
	if r := put(t, l, "c", 0, entry(0)); r[0].Sequence != 7 {
		t.Errorf("the next record is %d", r[0].Sequence)
	}
}

func testTrimPrefix(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 60, "node", "x")
	first := eventlog.Trim{Stream: "node", Rule: "age", Through: 10, Schema: 3, State: []byte("ten")}
	trim(t, l, first)
	left := without(records, first)
	want := eventlog.StreamInfo{Stream: "node", Version: 30, Base: eventlog.Base{Version: 10, Sequence: 19, Schema: 3, State: []byte("ten")}}
	check := func(when string) {
		t.Helper()
		if got := collect(t, l.Read(t.Context(), 1)); !equal(got, left) {
			t.Errorf("%s: the log has %s", when, list(got))
		}
		for _, from := range []eventlog.Version{0, 1, want.Base.Version, want.Base.Version + 1, 25} {
			var stream []eventlog.Record
			for _, r := range left {
				if r.Stream == "node" && r.Version >= from {
					stream = append(stream, r)
				}
			}
			if got := collect(t, l.ReadStream(t.Context(), "node", from)); !equal(got, stream) {
				t.Errorf("%s: from %d the stream has %s", when, from, list(got))
			}
		}
		if got, found, err := l.Stream(t.Context(), "node"); err != nil || !found || !reflect.DeepEqual(withoutRemoved(got), want) {
			t.Errorf("%s: %+v, %v, want %+v", when, got, err, want)
		}
		if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Streams != 2 {
			t.Errorf("%s: verify: %+v, %v", when, report, err)
		}
	}
	check("trimmed")
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	all := eventlog.Trim{Stream: "node", Rule: "age", Through: 30}
	trim(t, l, all)
	left, want.Base = without(left, all), eventlog.Base{Version: 30, Sequence: 59, State: []byte{}}
	check("trimmed to its end")
	l = m.Reopen(t, l, NewClock())
	check("and after a restart")
	left = append(left, put(t, l, "node", 30, entry(0))...)
	want.Version = 31
	check("and gone on with")
}

func testBadTrims(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 20, "s")
	trim(t, l, eventlog.Trim{Stream: "s", Rule: "age", Through: 5})
	for name, c := range map[string]struct {
		trim eventlog.Trim
		want error
	}{
		"no stream":               {eventlog.Trim{Through: 1, Rule: "age"}, eventlog.ErrInvalid},
		"a bad name":              {eventlog.Trim{Stream: "a b", Rule: "age", Through: 1}, eventlog.ErrInvalid},
		"no version":              {eventlog.Trim{Stream: "s", Rule: "age"}, eventlog.ErrInvalid},
		"beyond the end":          {eventlog.Trim{Stream: "s", Rule: "age", Through: 21}, eventlog.ErrInvalid},
		"trimmed already":         {eventlog.Trim{Stream: "s", Rule: "age", Through: 5}, eventlog.ErrInvalid},
		"a state of nothing":      {eventlog.Trim{Stream: "s", Rule: "age", Through: 20, Whole: true, State: []byte("x")}, eventlog.ErrInvalid},
		"whole, before the end":   {eventlog.Trim{Stream: "s", Rule: "age", Through: 19, Whole: true}, eventlog.ErrWrongVersion},
		"no rule":                 {eventlog.Trim{Stream: "s", Through: 10}, eventlog.ErrInvalid},
		"a bad rule":              {eventlog.Trim{Stream: "s", Through: 10, Rule: "a rule"}, eventlog.ErrInvalid},
		"a long rule":             {eventlog.Trim{Stream: "s", Through: 10, Rule: strings.Repeat("x", eventlog.MaxRule+1)}, eventlog.ErrInvalid},
		"one that does not exist": {eventlog.Trim{Stream: "t", Rule: "age", Through: 1, Whole: true}, eventlog.ErrWrongVersion},
		"a prefix of none":        {eventlog.Trim{Stream: "t", Rule: "age", Through: 1}, eventlog.ErrInvalid},
	} {
		if err := l.Trim(t.Context(), c.trim); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if got := collect(t, l.Read(t.Context(), 1)); len(got) != 15 {
		t.Errorf("the log has %s", list(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Trim(ctx, eventlog.Trim{Stream: "s", Rule: "age", Through: 6}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
	l.Close()
	if err := l.Trim(t.Context(), eventlog.Trim{Stream: "s", Rule: "age", Through: 6}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// testTrimWhileInUse trims during appends and reads: no reader sees damage.
func testTrimWhileInUse(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 900, "old", "node")
	ctx, cancel := context.WithCancel(timeout(t))
	var all sync.WaitGroup
	for _, s := range []eventlog.Stream{"old", "node", "new"} {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := end(l.ReadStream(ctx, s, 1)); err != nil && ctx.Err() == nil {
					t.Errorf("read %q: %v", s, err)
					return
				}
				if _, err := end(l.Read(ctx, 1)); err != nil && ctx.Err() == nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	version := eventlog.Version(0)
	grow := func() {
		put(t, l, "new", version, entry(0))
		version++
	}
	for through := eventlog.Version(50); through <= 450; through += 100 {
		trim(t, l, eventlog.Trim{Stream: "node", Rule: "age", Through: through, State: fmt.Append(nil, through)})
		grow()
	}
	trim(t, l, eventlog.Trim{Stream: "old", Rule: "age", Through: 450, Whole: true})
	grow()
	cancel()
	all.Wait()
	if got := collect(t, l.Read(t.Context(), 1)); len(got) != int(version) {
		t.Errorf("the log has %s", list(got))
	}
}

func testStreams(t *testing.T, m Maker) {
	l := m.open(t)
	const many = 1200
	for i := range many { // more than any log would list in one piece
		s := eventlog.Stream(fmt.Sprintf("container/%04d", i))
		l.AppendAsync(eventlog.Append{Stream: s, Entries: []eventlog.Entry{entry(i)}}, func(_ []eventlog.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	fill(t, l, 6, "node", "sandbox/1", "sandbox/10")
	trim(t, l, eventlog.Trim{Stream: "node", Rule: "age", Through: 2})
	trim(t, l, eventlog.Trim{Stream: "container/0007", Rule: "age", Through: 1, Whole: true})
	put(t, l, "sandbox/2", 0, entry(0))
	names := func(l eventlog.Reader, prefix string) (all []string) {
		for info, err := range l.Streams(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s@%d-%d", info.Stream, info.Base.Version, info.Version))
		}
		return all
	}
	for range 2 {
		if got := names(l, "container/"); len(got) != many-1 || got[7] != "container/0008@0-1" {
			t.Errorf("%d containers", len(got))
		}
		if got, want := names(l, "sandbox/1"), []string{"sandbox/1@0-2", "sandbox/10@0-2"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		all := names(l, "")
		want := []string{"node@2-2", "sandbox/1@0-2", "sandbox/10@0-2", "sandbox/2@0-1"}
		if len(all) != many+3 || !reflect.DeepEqual(all[many-1:], want) {
			t.Errorf("%d streams, the last are %v", len(all), all[max(0, len(all)-4):])
		}
		if got := names(l, "sandbox/3"); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		var based []string
		for info, err := range l.Bases(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			based = append(based, fmt.Sprintf("%s@%d-%d", info.Stream, info.Base.Version, info.Version))
		}
		if want := []string{"node@2-2"}; !reflect.DeepEqual(based, want) {
			t.Errorf("with a base: %v, not %v", based, want)
		}
		l = m.Reopen(t, l, NewClock())
	}
	for range l.Streams(t.Context(), "") {
		break
	}
}

// testBackup copies a log that is in use.
func testBackup(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 40, "a", "node")
	part := eventlog.Trim{Stream: "node", Rule: "age", Through: 10, State: []byte("ten")}
	trim(t, l, part)
	records = without(records, part)
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{Checkpoint: at(40), Put: map[string][]byte{"k": []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	records = append(records, put(t, l, "a", 20, entry(0), entry(1))...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for v := eventlog.Version(22); ; v++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := l.Append(context.Background(), eventlog.Append{Stream: "a", Expected: v, Entries: []eventlog.Entry{entry(int(v))}}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	path := filepath.Join(t.TempDir(), "copy")
	err := l.Backup(t.Context(), path)
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Backup(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	c := m.OpenBackup(t, path)
	got := collect(t, c.Read(t.Context(), 1))
	if len(got) < len(records) || !equal(got[:len(records)], records) {
		t.Errorf("the copy has %s\nwant %s", list(got), list(records))
	}
	if report, err := c.Verify(t.Context()); err != nil || !report.OK() || report.Removed["age"] != 10 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	if info, _, err := c.Stream(t.Context(), "node"); err != nil || string(info.Base.State) != "ten" {
		t.Errorf("%+v, %v", info, err)
	}
	if got := load(t, c, "x"); got.Sequence != 40 || got.pairs["k"] != "v" {
		t.Errorf("%+v", got)
	}
}
