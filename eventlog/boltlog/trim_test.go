package boltlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// fillStreams appends n records to each of two streams, in turn.
func fillStreams(t *testing.T, l *Log, n int) {
	t.Helper()
	for v := range eventlog.Version(n / 100) {
		for _, s := range []eventlog.Stream{"long", "other"} {
			a := eventlog.Append{Stream: s, Expected: 100 * v}
			for range 100 {
				a.Entries = append(a.Entries, eventlog.Entry{Type: "t"})
			}
			if _, err := l.Append(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTrimIsAllOrNothing stops a trim after each of its transactions, as a kill does:
// readers see none of the records, the log is sound, and the next start removes the rest.
func TestTrimIsAllOrNothing(t *testing.T) {
	const n = 1000
	for name, trim := range map[string]eventlog.Trim{
		"whole":  {Stream: "long", Rule: "age", Through: n, Whole: true},
		"prefix": {Stream: "long", Rule: "age", Through: n - 100, State: []byte("a state")},
	} {
		t.Run(name, func(t *testing.T) {
			paths := stopped(t, func(l *Log) { fillStreams(t, l, n) }, func(l *Log) {
				if err := l.Trim(t.Context(), trim); err != nil {
					t.Error(err)
				}
			})
			for i, path := range paths {
				if err := afterTrim(t, path, trim, n); err != nil {
					t.Fatalf("stopped after commit %d: %v", i+1, err)
				}
			}
			if len(paths) < 5 {
				t.Errorf("the trim took only %d commits", len(paths))
			}
		})
	}
}

// TestThinIsAllOrNothing does the same with a thinning.
func TestThinIsAllOrNothing(t *testing.T) {
	const n = 1000
	thin := eventlog.Thin{Rule: "settled"}
	for s := eventlog.Sequence(1); s < 2*n-200; s++ {
		if s%10 > 0 {
			thin.Sequences = append(thin.Sequences, s)
		}
	}
	paths := stopped(t, func(l *Log) { fillStreams(t, l, n) }, func(l *Log) {
		if err := l.Thin(t.Context(), thin); err != nil {
			t.Error(err)
		}
	})
	for i, path := range paths {
		l := open(t, Options{Path: path})
		for range 2 {
			// A subset again, or what is left of it.
			if got, err := drain(l.Read(t.Context(), 1)); err != nil || got != 2*n-len(thin.Sequences) {
				t.Fatalf("stopped after commit %d: %d records, %v", i+1, got, err)
			}
			if got, err := drain(l.ReadStream(t.Context(), "long", 1)); err != nil || got < n/10 || got > n/5 {
				t.Fatalf("stopped after commit %d: the stream has %d records, %v", i+1, got, err)
			}
			// It is done when this is.
			if err := l.Trim(t.Context(), eventlog.Trim{Stream: "new", Through: 1, Rule: "x"}); !errors.Is(err, eventlog.ErrInvalid) {
				t.Fatal(err)
			}
		}
		report, err := l.Verify(t.Context())
		if err != nil || !report.OK() || report.Removed["settled"] != uint64(len(thin.Sequences)) {
			t.Fatalf("stopped after commit %d: verify: %+v, %v", i+1, report, err)
		}
		l.Close()
	}
	if len(paths) < 5 {
		t.Errorf("the thinning took only %d commits", len(paths))
	}
}

// afterTrim checks a log that was killed in the middle of a committed trim.
func afterTrim(t *testing.T, path string, trim eventlog.Trim, n int) error {
	r, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	if err := trimmedLog(t, r, trim, n); err != nil {
		return fmt.Errorf("read only: %w", err)
	}
	r.Close()
	l := open(t, Options{Path: path})
	if err := trimmedLog(t, l, trim, n); err != nil {
		return err
	}
	// The rest is removed without another request.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		report, err := l.Verify(t.Context())
		if err != nil || report.Removed.Total() == uint64(trim.Through) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d records were removed", report.Removed.Total())
		}
	}
	if err := l.Trim(t.Context(), eventlog.Trim{Stream: "other", Rule: "age", Through: 1}); err != nil {
		return err
	}
	if trim.Whole {
		mustAppend(t, l, "long", 0)
	}
	report, err := l.Verify(t.Context())
	if want := uint64(trim.Through) + 1; err != nil || !report.OK() || report.Removed.Total() != want {
		return fmt.Errorf("verify: %+v, %w; want %d trimmed", report, err, want)
	}
	return l.view(t.Context(), func(tx *bolt.Tx) error {
		if under, err := removingOf(tx); err != nil || !under.none() {
			return fmt.Errorf("%+v is still under way, %w", under, err)
		}
		return nil
	})
}

// trimmedLog checks what readers see after a trim.
func trimmedLog(t *testing.T, l eventlog.Reader, trim eventlog.Trim, n int) error {
	left := n - int(trim.Through)
	for what, want := range map[eventlog.Stream]int{"long": left, "other": n} {
		if got, err := drain(l.ReadStream(t.Context(), what, 1)); err != nil || got != want {
			return fmt.Errorf("%q has %d records, %w; want %d", what, got, err, want)
		}
	}
	if got, err := drain(l.Read(t.Context(), 1)); err != nil || got != n+left {
		return fmt.Errorf("%d records, %w; want %d", got, err, n+left)
	}
	if info, found, err := l.Stream(t.Context(), "long"); err != nil || found == trim.Whole || found && (info.Version != eventlog.Version(n) || info.Base.Version != trim.Through) {
		return fmt.Errorf("the stream is %+v, %v, %w", info, found, err)
	}
	if l.Last() != eventlog.Sequence(2*n) {
		return fmt.Errorf("Last() is %d", l.Last())
	}
	if report, err := l.Verify(t.Context()); err != nil || !report.OK() {
		return fmt.Errorf("verify: %+v, %w", report, err)
	}
	return nil
}

// TestDamagedHoles: records in a damaged hole are missing, and a stream whose base is
// damaged can be neither read nor appended to.
func TestDamagedHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	fillStreams(t, l, 100)
	for _, trim := range []eventlog.Trim{{Stream: "long", Rule: "age", Through: 50, State: []byte("x")}, {Stream: "other", Rule: "age", Through: 100, Whole: true}} {
		if err := l.Trim(t.Context(), trim); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	corrupt(t, path, bucketHoles, recordKey(1), flipFirstBit)
	corrupt(t, path, bucketBases, []byte("long"), flipFirstBit)
	l = open(t, Options{Path: path})
	if got, n := readThroughDamage(t, l.Read(t.Context(), 1)); n != 50 || !match(got, []string{"records 1 to 50: missing"}) {
		t.Errorf("Read: %d records, %q", n, got)
	}
	if got, n := readThroughDamage(t, l.ReadStream(t.Context(), "long", 1)); n != 0 || !match(got, []string{"its base: CRC-32C"}) {
		t.Errorf("ReadStream: %d records, %q", n, got)
	}
	if _, err := appendTo(l, "long", 100); err == nil {
		t.Error("a stream with a damaged base is gone on with")
	}
	if l.Last() != 200 {
		t.Errorf("Last() is %d", l.Last())
	}
	report, err := l.Verify(t.Context())
	if err != nil || report.Damaged < 3 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestDamagedGaps: versions in a damaged gap are missing, and only these.
func TestDamagedGaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	l := open(t, Options{Path: path})
	fillStreams(t, l, 100)
	for _, sequences := range [][]eventlog.Sequence{{11, 12, 13}, {51, 52}} {
		if err := l.Thin(t.Context(), eventlog.Thin{Sequences: sequences, Rule: "settled"}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	corrupt(t, path, bucketGaps, indexKey("long", 11), flipFirstBit)
	l = open(t, Options{Path: path})
	if got, n := readThroughDamage(t, l.Read(t.Context(), 1)); n != 195 || len(got) != 0 {
		t.Errorf("Read: %d records, %q", n, got)
	}
	if got, n := readThroughDamage(t, l.ReadStream(t.Context(), "long", 1)); n != 95 || !match(got, []string{"versions 11 to 13 are not in the index"}) {
		t.Errorf("ReadStream: %d records, %q", n, got)
	}
	if report, err := l.Verify(t.Context()); err != nil || report.Damaged != 2 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	corrupted := filepath.Join(t.TempDir(), "events.db")
	l = open(t, Options{Path: corrupted})
	fillStreams(t, l, 100)
	if err := l.Thin(t.Context(), eventlog.Thin{Sequences: []eventlog.Sequence{11, 12}, Rule: "settled"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	corrupt(t, corrupted, bucketIndex, indexKey("long", 12), func([]byte) []byte { return recordKey(13) })
	l = open(t, Options{Path: corrupted})
	if report, err := l.Verify(t.Context()); err != nil || report.OK() {
		t.Errorf("a version that was removed exists: verify: %+v, %v", report, err)
	}
}
