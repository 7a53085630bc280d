package logtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

// rules are those by which tests remove records.
var rules = []string{"age", "settled", "size"}

// gone is a record that was removed. It has no stream if that is gone as a whole.
type gone struct {
	record eventlog.Record
	rule   string
}

// walk reads to the end and describes what comes: "5=a/3" for a record, "6-9 (4 by age)" for
// removed ones of the log, "a/2-4 6-9 base 3 (3 by age)" for those of a stream.
func walk(t testing.TB, records iter.Seq2[eventlog.Record, error]) (all []string) {
	t.Helper()
	for r, err := range records {
		g, isGap := errors.AsType[*eventlog.GapError](err)
		switch {
		case err == nil:
			all = append(all, fmt.Sprintf("%d=%s/%d", r.Sequence, r.Stream, r.Version))
		case isGap:
			if g.Since.IsZero() || g.Until.Before(g.Since) || g.Records() != g.Rules.Total() || !strings.Contains(err.Error(), g.Rules.String()) {
				t.Errorf("a gap is %+v: %v", *g, err)
			}
			all = append(all, describe(g))
		default:
			t.Fatalf("read: %v", err)
		}
	}
	return all
}

func describe(g *eventlog.GapError) string {
	if g.Stream == "" {
		return fmt.Sprintf("%d-%d (%v)", g.First, g.Last, g.Rules)
	}
	return fmt.Sprintf("%s/%d-%d %d-%d base %d (%v)", g.Stream, g.From, g.Through, g.First, g.Last, g.Base, g.Rules)
}

// walk is what a reader of the whole log gets.
func (m *model) walk() (all []string) {
	there := make(map[eventlog.Sequence]eventlog.Record)
	for _, r := range m.records {
		there[r.Sequence] = r
	}
	var g *eventlog.GapError
	for s := eventlog.Sequence(1); s <= m.last; s++ {
		if r, is := there[s]; is {
			if g != nil {
				all, g = append(all, describe(g)), nil
			}
			all = append(all, fmt.Sprintf("%d=%s/%d", s, r.Stream, r.Version))
			continue
		}
		if g == nil {
			g = &eventlog.GapError{Removal: eventlog.Removal{First: s}}
		}
		g.Last, g.Rules = s, g.Rules.With(eventlog.Rules{m.gone[s].rule: 1})
	}
	if g != nil {
		all = append(all, describe(g))
	}
	return all
}

// walkStream is what a reader of a stream gets.
func (m *model) walkStream(name eventlog.Stream) (all []string) {
	there, missing := make(map[eventlog.Version]eventlog.Record), make(map[eventlog.Version]gone)
	for _, r := range m.records {
		if r.Stream == name {
			there[r.Version] = r
		}
	}
	for _, g := range m.gone {
		if g.record.Stream == name {
			missing[g.record.Version] = g
		}
	}
	base := m.bases[name].Version
	var g *eventlog.GapError
	for v := eventlog.Version(1); v <= m.heads[name]; v++ {
		if r, is := there[v]; is {
			if g != nil {
				all, g = append(all, describe(g)), nil
			}
			all = append(all, fmt.Sprintf("%d=%s/%d", r.Sequence, name, v))
			continue
		}
		s := missing[v].record.Sequence
		if g == nil {
			g = &eventlog.GapError{Removal: eventlog.Removal{First: s}, Stream: name, From: v}
			if v <= base {
				g.Base = base
			}
		}
		g.Through, g.Last, g.Rules = v, s, g.Rules.With(eventlog.Rules{missing[v].rule: 1})
	}
	if g != nil {
		all = append(all, describe(g))
	}
	return all
}

// withoutRemoved is a stream without what is known of its removed records.
func withoutRemoved(s eventlog.StreamInfo) eventlog.StreamInfo {
	s.Base.Removed = eventlog.Removal{}
	return s
}

func thin(t testing.TB, l eventlog.Log, rule string, sequences ...eventlog.Sequence) {
	t.Helper()
	if err := l.Thin(t.Context(), eventlog.Thin{Sequences: sequences, Rule: rule}); err != nil {
		t.Fatalf("thin out %v: %v", sequences, err)
	}
}

// same compares what is read with what is wanted.
func same(t testing.TB, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q\nwant %q", when, got, want)
	}
}

func testThin(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 12, "a", "b") // a has the odd ones
	thin(t, l, "settled", 3, 4, 5, 7)
	check := func(when string) {
		t.Helper()
		same(t, when, walk(t, l.Read(t.Context(), 1)), "1=a/1", "2=b/1", "3-5 (3 by settled)", "6=b/3", "7-7 (1 by settled)",
			"8=b/4", "9=a/5", "10=b/5", "11=a/6", "12=b/6")
		same(t, when, walk(t, l.ReadStream(t.Context(), "a", 1)), "1=a/1", "a/2-4 3-7 base 0 (3 by settled)", "9=a/5", "11=a/6")
		same(t, when, walk(t, l.ReadStream(t.Context(), "a", 3)), "a/2-4 3-7 base 0 (3 by settled)", "9=a/5", "11=a/6")
		same(t, when, walk(t, l.ReadStream(t.Context(), "a", 5)), "9=a/5", "11=a/6")
		same(t, when, walk(t, l.ReadStream(t.Context(), "b", 2)), "b/2-2 4-4 base 0 (1 by settled)", "6=b/3", "8=b/4", "10=b/5", "12=b/6")
		same(t, when, walk(t, l.Read(t.Context(), 4))[:2], "3-5 (3 by settled)", "6=b/3")
		if info, _, err := l.Stream(t.Context(), "a"); err != nil || info.Version != 6 || info.Base.Version != 0 {
			t.Errorf("%s: %+v, %v", when, info, err)
		}
		if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Records != 8 || report.Removed.String() != "4 by settled" {
			t.Errorf("%s: verify: %+v, %v", when, report, err)
		}
	}
	check("thinned out")
	thin(t, l, "again", 3, 4) // which are gone
	check("again")
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	put(t, l, "a", 6, entry(0))
	same(t, "gone on with", walk(t, l.ReadStream(t.Context(), "a", 6)), "11=a/6", "13=a/7")
	next, stop := iter.Pull2(l.Subscribe(timeout(t), 5))
	defer stop()
	if _, err, _ := next(); !errors.Is(err, eventlog.ErrRemoved) {
		t.Errorf("a subscriber from a gap gets %v", err)
	}
	if r, err, _ := next(); err != nil || r.Sequence != 6 {
		t.Errorf("and then %d, %v", r.Sequence, err)
	}
}

// testGaps: neighbouring runs become one, whatever removed them.
func testGaps(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 30, "a", "b", "c")
	thin(t, l, "settled", 2, 5, 8)
	thin(t, l, "other", 4, 11)
	trim(t, l, eventlog.Trim{Stream: "c", Through: 10, Rule: "age", Whole: true})
	same(t, "the log", walk(t, l.Read(t.Context(), 1))[:7], "1=a/1", "2-6 (2 by age, 1 by other, 2 by settled)",
		"7=a/3", "8-9 (1 by age, 1 by settled)", "10=a/4", "11-12 (1 by age, 1 by other)", "13=a/5")
	same(t, "b", walk(t, l.ReadStream(t.Context(), "b", 1))[:2], "b/1-4 2-11 base 0 (1 by other, 3 by settled)", "14=b/5")
	same(t, "a", walk(t, l.ReadStream(t.Context(), "a", 1))[:3], "1=a/1", "a/2-2 4-4 base 0 (1 by other)", "7=a/3")
	// A stream that begins anew has nothing of its former life.
	put(t, l, "c", 0, entry(0))
	same(t, "c", walk(t, l.ReadStream(t.Context(), "c", 1)), "31=c/1")
	if u, err := l.Usage(t.Context()); err != nil || u.Removed.String() != "10 by age, 2 by other, 3 by settled" || u.Records != 16 {
		t.Errorf("usage: %+v, %v", u, err)
	}
}

func testGapOfBase(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 20, "node", "x")
	thin(t, l, "settled", 3, 5, 13, 15)
	trim(t, l, eventlog.Trim{Stream: "node", Through: 6, Rule: "age", State: []byte("six")})
	check := func(when, base string) {
		t.Helper()
		info, _, err := l.Stream(t.Context(), "node")
		if err != nil || info.Base.Removed.Since.IsZero() || info.Base.Removed.Until.Before(info.Base.Removed.Since) {
			t.Fatalf("%s: %+v, %v", when, info, err)
		}
		same(t, when, []string{describe(info.Base.Gap("node"))}, base)
		// What was thinned out behind the base continues its gap.
		same(t, when, walk(t, l.ReadStream(t.Context(), "node", 1))[:2],
			"node/1-8 1-15 base 6 (4 by age, 4 by settled)", "17=node/9")
		same(t, when, walk(t, l.ReadStream(t.Context(), "node", info.Base.Version+1))[:2],
			"node/7-8 13-15 base 0 (2 by settled)", "17=node/9")
	}
	check("trimmed", "node/1-6 1-11 base 6 (4 by age, 2 by settled)")
	l = m.Reopen(t, l, NewClock())
	check("after a restart", "node/1-6 1-11 base 6 (4 by age, 2 by settled)")
	if err := l.Trim(t.Context(), eventlog.Trim{Stream: "node", Through: 7, Rule: "age"}); !errors.Is(err, eventlog.ErrInvalid) {
		t.Errorf("trimmed through what is gone: %v", err)
	}
	trim(t, l, eventlog.Trim{Stream: "node", Through: 9, Rule: "size", State: []byte("nine")})
	same(t, "trimmed twice", walk(t, l.ReadStream(t.Context(), "node", 1)), "node/1-9 1-17 base 9 (4 by age, 4 by settled, 1 by size)", "19=node/10")
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func testBadThins(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 20, "a", "b")
	many := make([]eventlog.Sequence, eventlog.MaxThin+1)
	for i := range many {
		many[i] = eventlog.Sequence(i + 1)
	}
	for name, bad := range map[string]eventlog.Thin{
		"nothing":               {Rule: "x"},
		"no rule":               {Sequences: many[:1]},
		"a bad rule":            {Sequences: many[:1], Rule: "a\nb"},
		"a long rule":           {Sequences: many[:1], Rule: strings.Repeat("x", eventlog.MaxRule+1)},
		"too many":              {Sequences: many, Rule: "x"},
		"no sequence":           {Sequences: []eventlog.Sequence{0}, Rule: "x"},
		"twice the same":        {Sequences: []eventlog.Sequence{4, 4}, Rule: "x"},
		"in disorder":           {Sequences: []eventlog.Sequence{4, 3}, Rule: "x"},
		"the last of a stream":  {Sequences: []eventlog.Sequence{1, 19}, Rule: "x"},
		"the last of the log":   {Sequences: []eventlog.Sequence{1, 20}, Rule: "x"},
		"what is not there yet": {Sequences: []eventlog.Sequence{1, 21}, Rule: "x"},
		"the largest number":    {Sequences: []eventlog.Sequence{1, ^eventlog.Sequence(0)}, Rule: "x"},
	} {
		if err := l.Thin(t.Context(), bad); !errors.Is(err, eventlog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := collect(t, l.Read(t.Context(), 1)); !equal(got, records) {
		t.Errorf("the log has %s", list(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Thin(ctx, eventlog.Thin{Sequences: many[:1], Rule: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
	l.Close()
	if err := l.Thin(t.Context(), eventlog.Thin{Sequences: many[:1], Rule: "x"}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// testThinWhileInUse thins out during appends and reads: each reader gets each record or is
// told of it, in order.
func testThinWhileInUse(t *testing.T, m Maker) {
	l := m.open(t)
	const n = 3000
	fill(t, l, n, "a", "b", "c")
	ctx, cancel := context.WithCancel(timeout(t))
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				inOrder(ctx, t, l)
			}
		})
	}
	version := eventlog.Version(0)
	for first := 1; first+500 < n; first += 500 {
		var some []eventlog.Sequence
		for s := first; s < first+500; s++ {
			if s%10 != 0 {
				some = append(some, eventlog.Sequence(s))
			}
		}
		thin(t, l, "settled", some...)
		put(t, l, "new", version, entry(0))
		version++
	}
	cancel()
	all.Wait()
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Removed["settled"] != 5*450 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// inOrder reads a log, and a stream of it, and checks that nothing is missing.
func inOrder(ctx context.Context, t *testing.T, l eventlog.Log) {
	next := eventlog.Sequence(1)
	for r, err := range l.Read(ctx, 1) {
		switch g, isGap := errors.AsType[*eventlog.GapError](err); {
		case isGap && g.First <= next && g.Last >= next:
			next = g.Last + 1
		case err == nil && r.Sequence == next:
			next++
		case ctx.Err() != nil:
			return
		default:
			t.Errorf("after %d comes %d, %v", next-1, r.Sequence, err)
			return
		}
	}
	version := eventlog.Version(1)
	for r, err := range l.ReadStream(ctx, "b", 1) {
		switch g, isGap := errors.AsType[*eventlog.GapError](err); {
		case isGap && g.From <= version && g.Through >= version:
			version = g.Through + 1
		case err == nil && r.Version == version:
			version++
		case ctx.Err() != nil:
			return
		default:
			t.Errorf("after version %d comes %d, %v", version-1, r.Version, err)
			return
		}
	}
}

func testUsage(t *testing.T, m Maker) {
	l := m.open(t)
	usage := func() eventlog.Usage {
		t.Helper()
		u, err := l.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := usage(); u.Records != 0 || u.First != 0 || u.Last != 0 || u.RecordBytes != 0 || u.Removed.Total() != 0 {
		t.Errorf("an empty log: %+v", u)
	}
	big := make([]byte, 100_000)
	for v := range eventlog.Version(20) {
		put(t, l, "s", v, eventlog.Entry{Type: "big", Payload: big})
	}
	full := usage()
	if full.Records != 20 || full.First != 1 || full.Last != 20 || full.RecordBytes < 20*100_000 || full.RecordBytes > 21*100_000 {
		t.Errorf("twenty records: %+v", full)
	}
	thin(t, l, "settled", 1, 2, 3, 4, 5)
	trim(t, l, eventlog.Trim{Stream: "s", Through: 10, Rule: "age"})
	check := func(when string) {
		t.Helper()
		u := usage()
		if u.Records != 10 || u.First != 11 || u.Last != 20 || u.RecordBytes > 11*100_000 || u.Removed.String() != "5 by age, 5 by settled" {
			t.Errorf("%s: %+v", when, u)
		}
	}
	check("ten are gone")
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	l.Close()
	if _, err := l.Usage(t.Context()); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// fillAndRemove makes a log of which a part is gone, and returns what is left.
func fillAndRemove(t testing.TB, l eventlog.Log) []eventlog.Record {
	t.Helper()
	records := fill(t, l, 1200, "a", "node", "old")
	var some []eventlog.Sequence
	for s := eventlog.Sequence(1); s < 1000; s++ {
		if s%7 != 0 {
			some = append(some, s)
		}
	}
	thin(t, l, "settled", some...)
	trim(t, l, eventlog.Trim{Stream: "old", Through: 400, Rule: "age", Whole: true})
	trim(t, l, eventlog.Trim{Stream: "node", Through: 350, Rule: "age", State: []byte("a state")})
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{Checkpoint: at(1000), Put: map[string][]byte{"k": []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(records, func(r eventlog.Record) bool {
		return r.Stream == "old" || r.Stream == "node" && r.Version <= 350 || slices.Contains(some, r.Sequence)
	})
}

func testCompact(t *testing.T, m Maker) {
	l := m.open(t)
	records := fillAndRemove(t, l)
	read := func() (all []string) {
		return slices.Concat(walk(t, l.Read(t.Context(), 1)), walk(t, l.ReadStream(t.Context(), "a", 1)), walk(t, l.ReadStream(t.Context(), "node", 1)))
	}
	before := read()
	info, _, err := l.Stream(t.Context(), "node")
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if got := collect(t, l.Read(t.Context(), 1)); !equal(got, records) {
			t.Errorf("%s: the log has %s", when, list(got))
		}
		if after := read(); !slices.Equal(after, before) {
			t.Errorf("%s: it is read as %q\nwant %q", when, after, before)
		}
		if got, _, err := l.Stream(t.Context(), "node"); err != nil || !reflect.DeepEqual(got, info) {
			t.Errorf("%s: %+v, %v, want %+v", when, got, err, info)
		}
		if got := load(t, l, "x"); got.pairs["k"] != "v" {
			t.Errorf("%s: %+v", when, got)
		}
		if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Removed.Total()+report.Records != uint64(l.Last()) {
			t.Errorf("%s: verify: %+v, %v", when, report, err)
		}
	}
	check("before")
	for range 2 {
		if err := l.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("compacted")
	}
	l = m.Reopen(t, l, NewClock())
	check("after a restart")
	// It goes on.
	put(t, l, "a", 400, entry(0))
	thin(t, l, "settled", 1200-2)
	if err := l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, l.ReadStream(t.Context(), "a", 400)); len(got) != 1 || got[0].Version != 401 {
		t.Errorf("the stream goes on with %s", list(got))
	}
	l.Close()
	if err := l.Compact(t.Context()); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// testCompactWhileInUse compacts during appends, removals, savings and reads.
func testCompactWhileInUse(t *testing.T, m Maker) {
	l := m.open(t)
	fillAndRemove(t, l)
	ctx, cancel := context.WithCancel(timeout(t))
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			inOrder(ctx, t, l)
		}
	})
	all.Go(func() {
		next := eventlog.Sequence(1)
		for r, err := range l.Subscribe(ctx, 1) {
			g, isGap := errors.AsType[*eventlog.GapError](err)
			switch {
			case isGap:
				next = max(next, g.Last+1)
			case err == nil && r.Sequence == next:
				next++
			case ctx.Err() == nil:
				t.Errorf("a subscriber gets %d, %v, after %d", r.Sequence, err, next-1)
				return
			}
		}
	})
	version := eventlog.Version(0)
	for range 5 {
		compacted := make(chan error, 1)
		go func() { compacted <- l.Compact(ctx) }()
		for range 50 {
			put(t, l, "new", version, entry(0))
			version++
		}
		if err := l.SaveCheckpoint(ctx, "x", eventlog.Delta{Checkpoint: at(l.Last()), Replace: true, Put: map[string][]byte{"k": fmt.Append(nil, version)}}); err != nil {
			t.Error(err)
		}
		thin(t, l, "settled", l.Last()-1)
		if err := <-compacted; err != nil {
			t.Error(err)
		}
	}
	cancel()
	all.Wait()
	if got := load(t, l, "x"); got.pairs["k"] != fmt.Sprint(version) {
		t.Errorf("the checkpoint is %+v", got)
	}
	if got := collect(t, l.ReadStream(t.Context(), "new", 1)); len(got) != int(version)-5 {
		t.Errorf("%d records were appended, and 5 removed: there are %d", version, len(got))
	}
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Last != l.Last() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}
