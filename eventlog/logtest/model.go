package logtest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/eventlog"
)

// model is what a log is: a list of records and a map of snapshots.
type model struct {
	records   []eventlog.Record
	heads     map[eventlog.Stream]eventlog.Version
	snapshots map[string]eventlog.Snapshot
}

// testModel compares the log with the model under random operations.
func testModel(t *testing.T, m Maker) {
	rapid.Check(t, func(rt *rapid.T) {
		l := m.open(t)
		defer func() { l.Close() }()
		want := model{heads: make(map[eventlog.Stream]eventlog.Version), snapshots: make(map[string]eventlog.Snapshot)}
		streams := rapid.SampledFrom([]eventlog.Stream{"a", "ab", "a/b", "b", "node"})
		names := rapid.SampledFrom([]string{"x", "y"})
		rt.Repeat(map[string]func(*rapid.T){
			"append":   func(rt *rapid.T) { want.append(rt, t, l, streams.Draw(rt, "stream")) },
			"snapshot": func(rt *rapid.T) { want.snapshot(rt, t, l, names.Draw(rt, "name")) },
			"reopen":   func(*rapid.T) { l = m.Reopen(t, l, NewClock()) },
			"":         func(rt *rapid.T) { want.check(rt, t, l) },
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
	m.records = append(m.records, records...)
	m.heads[s] += eventlog.Version(len(a.Entries))
}

func (m *model) snapshot(rt *rapid.T, t *testing.T, l eventlog.Log, name string) {
	s := eventlog.Snapshot{
		Sequence: eventlog.Sequence(rapid.IntRange(0, len(m.records)).Draw(rt, "sequence")),
		Schema:   rapid.Uint32().Draw(rt, "schema"),
		Payload:  rapid.SliceOfN(rapid.Byte(), 0, 10000).Draw(rt, "payload"),
	}
	if err := l.SaveSnapshot(t.Context(), name, s); err != nil {
		rt.Fatal(err)
	}
	m.snapshots[name] = s
}

func (m *model) check(rt *rapid.T, t *testing.T, l eventlog.Log) {
	if got := collect(t, l.Read(t.Context(), 1)); !equal(got, m.records) {
		rt.Fatalf("the log has %s\nwant %s", list(got), list(m.records))
	}
	perStream := make(map[eventlog.Stream][]eventlog.Record)
	for _, r := range m.records {
		perStream[r.Stream] = append(perStream[r.Stream], r)
	}
	for s, want := range perStream {
		if got := collect(t, l.ReadStream(t.Context(), s, 1)); !equal(got, want) {
			rt.Fatalf("stream %q has %s\nwant %s", s, list(got), list(want))
		}
	}
	for name, want := range m.snapshots {
		if got, found, err := l.LoadSnapshot(t.Context(), name); err != nil || !found || !reflect.DeepEqual(got, want) {
			rt.Fatalf("snapshot %q: %v, %v, %+v", name, found, err, got)
		}
	}
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Records != uint64(len(m.records)) || report.Streams != uint64(len(perStream)) {
		rt.Fatalf("verify: %+v, %v", report, err)
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
