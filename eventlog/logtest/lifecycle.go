package logtest

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

func testClose(t *testing.T, m Maker) {
	l := m.open(t)
	fill(t, l, 5, "s")
	waiting := make(chan error)
	go func() {
		_, err := end(l.Subscribe(context.Background(), 1))
		waiting <- err
	}()
	for n := range 2 {
		if err := l.Close(); err != nil {
			t.Fatalf("Close %d: %v", n+1, err)
		}
	}
	if err := <-waiting; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("a subscription ended with %v", err)
	}
	_, appendErr := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: 5, Entries: []eventlog.Entry{entry(5)}})
	var asyncErr error
	called := 0
	l.AppendAsync(eventlog.Append{Stream: "s", Expected: 5, Entries: []eventlog.Entry{entry(5)}}, func(_ []eventlog.Record, err error) {
		called++
		asyncErr = err
	})
	if called != 1 {
		t.Errorf("done was called %d times before AppendAsync returned", called)
	}
	_, readErr := end(l.Read(t.Context(), 1))
	_, streamErr := end(l.ReadStream(t.Context(), "s", 1))
	_, subscribeErr := end(l.Subscribe(t.Context(), 1))
	_, _, loadErr := l.LoadCheckpoint(t.Context(), "x")
	_, verifyErr := l.Verify(t.Context())
	for name, err := range map[string]error{
		"Append": appendErr, "AppendAsync": asyncErr, "Read": readErr, "ReadStream": streamErr, "Subscribe": subscribeErr,
		"LoadCheckpoint": loadErr, "Verify": verifyErr, "SaveCheckpoint": l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{}),
	} {
		if !errors.Is(err, eventlog.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func testCloseDrains(t *testing.T, m Maker) {
	l := m.open(t)
	const n = 200
	answers := make(chan error, n)
	for v := range eventlog.Version(n) {
		l.AppendAsync(eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{entry(int(v))}}, func(_ []eventlog.Record, err error) {
			answers <- err
		})
	}
	l = m.Reopen(t, l, NewClock())
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	checkNumbers(t, collect(t, l.Read(t.Context(), 1)), n)
}

func testReopen(t *testing.T, m Maker) {
	l := m.open(t)
	var want []eventlog.Record
	for round := range eventlog.Version(3) {
		want = append(want, put(t, l, "a", 2*round, entry(0), entry(1))...)
		want = append(want, put(t, l, "b", round, entry(2))...)
		l = m.Reopen(t, l, NewClock())
		if l.Last() != eventlog.Sequence(len(want)) {
			t.Fatalf("round %d: Last() = %d, want %d", round, l.Last(), len(want))
		}
		if got := collect(t, l.Read(t.Context(), 1)); !equal(got, want) {
			t.Fatalf("round %d: %d records, want %d, or they differ", round, len(got), len(want))
		}
	}
	_, err := l.Append(t.Context(), eventlog.Append{Stream: "a", Expected: 5, Entries: []eventlog.Entry{entry(0)}})
	if !errors.Is(err, eventlog.ErrWrongVersion) {
		t.Errorf("after a restart the version isn't known: %v", err)
	}
}

func testVerify(t *testing.T, m Maker) {
	l := m.open(t)
	report, err := l.Verify(t.Context())
	if err != nil || !report.OK() || report.Records != 0 || report.First != 0 || report.Last != 0 {
		t.Errorf("empty: %+v, %v", report, err)
	}
	fill(t, l, 50, "a", "b", "c")
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 50}}); err != nil {
		t.Fatal(err)
	}
	report, err = l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report.Bytes = 0
	want := eventlog.Report{Removed: eventlog.Rules{}, Records: 50, Streams: 3, Checkpoints: 1, First: 1, Last: 50}
	if !reflect.DeepEqual(report, want) {
		t.Errorf("got %+v, want %+v", report, want)
	}
}
