package boltlog

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

// TestSecondFormat: a log that was written in the second format can be read, and is
// converted when it is opened for writing: the bytes in testdata have streams that were
// trimmed, whole and in part, and a trim under way.
func TestSecondFormat(t *testing.T) {
	f, err := os.Open("testdata/format2.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, b)
	check := func(l eventlog.Reader, when string) {
		t.Helper()
		for s, want := range map[eventlog.Stream]int{"gone": 0, "node": 6, "a": 5, "underway": 3} {
			if n, err := drain(l.ReadStream(t.Context(), s, 1)); n != want || err != nil {
				t.Errorf("%s: stream %q has %d records, %v; want %d", when, s, n, err, want)
			}
		}
		var removed eventlog.Rules
		for _, err := range l.Read(t.Context(), 1) {
			if g, is := errors.AsType[*eventlog.GapError](err); is {
				removed = removed.With(g.Rules)
			} else if err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		if removed.String() != "12 by "+eventlog.UnknownRule {
			t.Errorf("%s: removed: %v", when, removed)
		}
		info, _, err := l.Stream(t.Context(), "node")
		if err != nil || string(info.Base.State) != "four" || info.Base.Schema != 7 || info.Base.Removed.Rules[eventlog.UnknownRule] != 4 {
			t.Errorf("%s: %+v, %v", when, info, err)
		}
		if saved, found, err := l.LoadCheckpoint(t.Context(), "live"); err != nil || !found || saved.Sequence != 20 {
			t.Errorf("%s: %+v, %v, %v", when, saved, found, err)
		}
		if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
			t.Errorf("%s: verify: %+v, %v", when, report, err)
		}
		if u, err := l.Usage(t.Context()); err != nil || u.RecordBytes == 0 || u.Last != 26 {
			t.Errorf("%s: usage: %+v, %v", when, u, err)
		}
	}
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	check(r, "read only")
	r.Close()
	l := open(t, Options{Path: path})
	check(l, "opened")
	// One removal at a time: the one under way ends before this.
	if err := l.Thin(t.Context(), eventlog.Thin{Sequences: []eventlog.Sequence{16}, Rule: "settled"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() || report.Removed.String() != "1 by settled, 12 by "+eventlog.UnknownRule {
		t.Errorf("verify: %+v, %v", report, err)
	}
	put := mustAppend(t, l, "underway", 6)
	if put.Sequence != 27 {
		t.Errorf("it goes on with %d", put.Sequence)
	}
}
