package logtest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/eventlog"
)

// model is a simple log: a list of records, without those that were removed, these, the
// bases, and a map of checkpoints.
type model struct {
	gone        map[eventlog.Sequence]gone
	last        eventlog.Sequence
	bases       map[eventlog.Stream]eventlog.Base
	records     []eventlog.Record
	heads       map[eventlog.Stream]eventlog.Version
	checkpoints map[string]savedPairs
}

// testModel compares the log with the model under random operations.
func testModel(t *testing.T, m Maker) {
	rapid.Check(t, func(rt *rapid.T) {
		l := m.open(t)
		defer func() { l.Close() }()
		want := model{gone: make(map[eventlog.Sequence]gone), bases: make(map[eventlog.Stream]eventlog.Base), heads: make(map[eventlog.Stream]eventlog.Version), checkpoints: make(map[string]savedPairs)}
		streams := rapid.SampledFrom([]eventlog.Stream{"a", "ab", "a/b", "b", "node"})
		names := rapid.SampledFrom([]string{"x", "y"})
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { want.append(rt, t, l, streams.Draw(rt, "stream")) },
			"save":   func(rt *rapid.T) { want.save(rt, t, l, names.Draw(rt, "name")) },
			"trim":   func(rt *rapid.T) { want.trim(rt, t, l, streams.Draw(rt, "stream")) },
			"thin":   func(rt *rapid.T) { want.thin(rt, t, l) },
			"compact": func(rt *rapid.T) {
				if err := l.Compact(t.Context()); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(*rapid.T) { l = m.Reopen(t, l, NewClock()) },
			"":       func(rt *rapid.T) { want.check(rt, t, l) },
		})
	})
}

func (m *model) append(rt *rapid.T, t *testing.T, l eventlog.Log, s eventlog.Stream) {
	a := eventlog.Append{Stream: s, Expected: m.heads[s], Volatile: rapid.Bool().Draw(rt, "volatile")}
	if rapid.IntRange(0, 4).Draw(rt, "wrong") == 0 {
		a.Expected = eventlog.Version(rapid.IntRange(0, 5).Draw(rt, "expected"))
	}
	for range rapid.IntRange(1, 4).Draw(rt, "entries") {
		a.Entries = append(a.Entries, eventlog.Entry{
			Type:    rapid.StringMatching(`[!-~]{1,20}`).Draw(rt, "type"),
			Schema:  rapid.Uint32().Draw(rt, "schema"),
			Cause:   eventlog.Cause{Command: rapid.StringMatching(`[!-~]{0,5}`).Draw(rt, "command"), Event: eventlog.Sequence(rapid.Uint64().Draw(rt, "event"))},
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "payload"),
		})
	}
	records, err := l.Append(t.Context(), a)
	if a.Expected != m.heads[s] {
		if !errors.Is(err, eventlog.ErrWrongVersion) {
			rt.Fatalf("append at %d to a stream at %d: %v", a.Expected, m.heads[s], err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	for i, r := range records {
		if !reflect.DeepEqual(r.Entry, a.Entries[i]) {
			rt.Fatalf("entry %d: got %+v, want %+v", i, r.Entry, a.Entries[i])
		}
	}
	if records[0].Sequence != m.last+1 {
		rt.Fatalf("record %d comes after %d", records[0].Sequence, m.last)
	}
	m.last += eventlog.Sequence(len(records))
	m.records = append(m.records, records...)
	m.heads[s] += eventlog.Version(len(a.Entries))
}

func (m *model) trim(rt *rapid.T, t *testing.T, l eventlog.Log, s eventlog.Stream) {
	head, base := m.heads[s], m.bases[s].Version
	what := eventlog.Trim{Stream: s, Rule: rapid.SampledFrom(rules).Draw(rt, "rule"), Through: eventlog.Version(rapid.IntRange(1, int(head)+2).Draw(rt, "through")), Whole: rapid.Bool().Draw(rt, "whole")}
	if what.Whole && rapid.IntRange(0, 3).Draw(rt, "right") > 0 {
		what.Through = max(head, 1)
	}
	if !what.Whole {
		what.State = rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "state")
	}
	err := l.Trim(t.Context(), what)
	if what.Whole && what.Through != head || !what.Whole && (what.Through > head || what.Through <= base || !m.has(s, what.Through)) {
		if !errors.Is(err, eventlog.ErrInvalid) && !errors.Is(err, eventlog.ErrWrongVersion) {
			rt.Fatalf("trim %+v of a stream from %d to %d: %v", what, base, head, err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	if what.Whole {
		delete(m.heads, s)
		delete(m.bases, s)
	} else {
		at := eventlog.Base{Version: what.Through, State: append([]byte{}, what.State...)}
		for _, r := range m.records {
			if r.Stream == s && r.Version == what.Through {
				at.Sequence = r.Sequence
			}
		}
		m.bases[s] = at
	}
	for _, r := range m.records {
		if r.Stream == s && r.Version <= what.Through {
			m.gone[r.Sequence] = gone{r, what.Rule}
		}
	}
	if what.Whole {
		for sequence, g := range m.gone {
			g.record.Stream = ""
			if m.gone[sequence].record.Stream == s {
				m.gone[sequence] = g
			}
		}
	}
	m.records = without(m.records, what)
}

// has reports whether a version is there.
func (m *model) has(s eventlog.Stream, v eventlog.Version) bool {
	return slices.ContainsFunc(m.records, func(r eventlog.Record) bool { return r.Stream == s && r.Version == v })
}

func (m *model) thin(rt *rapid.T, t *testing.T, l eventlog.Log) {
	if m.last == 0 {
		return
	}
	sequences := rapid.SliceOfNDistinct(rapid.Uint64Range(1, uint64(m.last)), 1, 40, rapid.ID[uint64]).Draw(rt, "sequences")
	what := eventlog.Thin{Rule: rapid.SampledFrom(rules).Draw(rt, "rule")}
	for _, s := range slices.Sorted(slices.Values(sequences)) {
		what.Sequences = append(what.Sequences, eventlog.Sequence(s))
	}
	isLast := func(r eventlog.Record) bool { return r.Version == m.heads[r.Stream] }
	if rapid.IntRange(0, 3).Draw(rt, "right") > 0 {
		for _, r := range m.records {
			if i, found := slices.BinarySearch(what.Sequences, r.Sequence); found && isLast(r) {
				what.Sequences = slices.Delete(what.Sequences, i, i+1)
			}
		}
		if len(what.Sequences) == 0 {
			return
		}
	}
	var left []eventlog.Record
	allowed, removed := true, make(map[eventlog.Sequence]gone)
	for _, r := range m.records {
		if _, found := slices.BinarySearch(what.Sequences, r.Sequence); found {
			removed[r.Sequence], allowed = gone{r, what.Rule}, allowed && !isLast(r)
			continue
		}
		left = append(left, r)
	}
	err := l.Thin(t.Context(), what)
	if !allowed {
		if !errors.Is(err, eventlog.ErrInvalid) {
			rt.Fatalf("thin out %v: %v", what, err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	maps.Copy(m.gone, removed)
	m.records = left
}

func (m *model) save(rt *rapid.T, t *testing.T, l eventlog.Log, name string) {
	before := m.checkpoints[name]
	d := eventlog.Delta{Checkpoint: eventlog.Checkpoint{
		Sequence: eventlog.Sequence(rapid.IntRange(int(before.Sequence), int(m.last)).Draw(rt, "sequence")),
		Schema:   rapid.Uint32().Draw(rt, "schema"),
	}}
	keys := rapid.StringMatching(`[ab/]{1,3}`)
	d.Put = rapid.MapOfN(keys, rapid.SliceOfN(rapid.Byte(), 0, 3000), 0, 8).Draw(rt, "put")
	if rapid.IntRange(0, 19).Draw(rt, "large") == 19 { // more than one piece
		for i := range 300 {
			d.Put[fmt.Sprintf("n/%d", i)] = fmt.Append(nil, i, m.last)
		}
	}
	if d.Replace = rapid.IntRange(0, 3).Draw(rt, "replace") == 0; !d.Replace {
		d.After = before.Sequence
		for _, key := range rapid.SliceOfN(keys, 0, 4).Draw(rt, "delete") {
			if _, put := d.Put[key]; !put {
				d.Delete = append(d.Delete, key)
			}
		}
	}
	if err := l.SaveCheckpoint(t.Context(), name, d); err != nil {
		rt.Fatal(err)
	}
	m.checkpoints[name] = before.with(d)
}

func (m *model) check(rt *rapid.T, t *testing.T, l eventlog.Log) {
	if got := collect(t, l.Read(t.Context(), 1)); !equal(got, m.records) {
		rt.Fatalf("the log has %s\nwant %s", list(got), list(m.records))
	}
	if got, want := walk(t, l.Read(t.Context(), 1)), m.walk(); !reflect.DeepEqual(got, want) {
		rt.Fatalf("the log is read as %v\nwant %v", got, want)
	}
	perStream := make(map[eventlog.Stream][]eventlog.Record)
	for s := range m.heads {
		perStream[s] = nil
	}
	for _, r := range m.records {
		perStream[r.Stream] = append(perStream[r.Stream], r)
	}
	for s, want := range perStream {
		if got := collect(t, l.ReadStream(t.Context(), s, 1)); !equal(got, want) {
			rt.Fatalf("stream %q has %s\nwant %s", s, list(got), list(want))
		}
		if got, want := walk(t, l.ReadStream(t.Context(), s, 1)), m.walkStream(s); !reflect.DeepEqual(got, want) {
			rt.Fatalf("stream %q is read as %v\nwant %v", s, got, want)
		}
		info := eventlog.StreamInfo{Stream: s, Version: m.heads[s], Base: m.bases[s]}
		if got, found, err := l.Stream(t.Context(), s); err != nil || !found || !reflect.DeepEqual(withoutRemoved(got), info) {
			rt.Fatalf("stream %q is %+v, %v, want %+v", s, got, err, info)
		}
	}
	if got, want := places(t, l), m.places(); !reflect.DeepEqual(got, want) {
		rt.Fatalf("places are %v\nwant %v", got, want)
	}
	var every []eventlog.Sequence // as if none had been removed
	for s := range m.last {
		every = append(every, s+1)
	}
	if got, want := walk(t, l.ReadAt(t.Context(), every)), m.walk(); !reflect.DeepEqual(got, want) {
		rt.Fatalf("all of the log is read as %v\nwant %v", got, want)
	}
	for name, want := range m.checkpoints {
		if got := load(t, l, name); !reflect.DeepEqual(got, want) {
			rt.Fatalf("checkpoint %q: %v\nwant %v", name, got, want)
		}
	}
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Records != uint64(len(m.records)) || report.Streams != uint64(len(perStream)) ||
		report.Checkpoints != uint64(len(m.checkpoints)) || report.Removed.Total() != uint64(m.last)-report.Records || l.Last() != m.last {
		rt.Fatalf("verify: %+v, %v", report, err)
	}
	usage, err := l.Usage(t.Context())
	if err != nil || usage.Records != report.Records || usage.Last != m.last || usage.First != report.First ||
		usage.Removed.String() != report.Removed.String() || usage.Removed.Total() != report.Removed.Total() {
		rt.Fatalf("usage: %+v, %v; verify: %+v", usage, err, report)
	}
}

// list prints records briefly.
func list(records []eventlog.Record) string {
	out := fmt.Sprintf("%d records:", len(records))
	for _, r := range records {
		out += fmt.Sprintf(" %d=%s/%d", r.Sequence, r.Stream, r.Version)
	}
	return out
}
