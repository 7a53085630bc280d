package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

func testEmpty(t *testing.T, m Maker) {
	l := m.open(t)
	if got := l.Last(); got != 0 {
		t.Errorf("Last() = %d, want 0", got)
	}
	if got := collect(t, l.Read(t.Context(), 0)); len(got) != 0 {
		t.Errorf("Read: %v", got)
	}
	if got := collect(t, l.ReadStream(t.Context(), "nobody", 0)); len(got) != 0 {
		t.Errorf("ReadStream: %v", got)
	}
	if _, found, err := l.LoadCheckpoint(t.Context(), "none"); found || err != nil {
		t.Errorf("LoadCheckpoint: %v, %v", found, err)
	}
}

func testFields(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "node", 0, entry(0))
	e := eventlog.Entry{
		Type: "sandbox.Requested.v1", Schema: 3,
		Cause:   eventlog.Cause{Command: "sandbox.Run", Event: 1, Trace: "4bf92f3577b34da6"},
		Payload: []byte("\x00binary\xff"),
	}
	got := put(t, l, "sandbox/1", 0, e)
	if len(got) != 1 {
		t.Fatalf("%d records, want 1", len(got))
	}
	want := eventlog.Record{Sequence: 2, Stream: "sandbox/1", Version: 1, BootID: BootID, Entry: e}
	want.Time, want.SinceBoot = got[0].Time, got[0].SinceBoot
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	// The first record took the clock's first two ticks.
	if d := got[0].Time.Sub(start); d != 3*time.Millisecond || got[0].Time.Location() != time.UTC {
		t.Errorf("Time is %v, want %v after %v, in UTC", got[0].Time, 3*time.Millisecond, start)
	}
	if d := got[0].SinceBoot; d != 4*time.Millisecond {
		t.Errorf("SinceBoot is %v, want 4ms", d)
	}
	if read := collect(t, l.Read(t.Context(), 2)); !reflect.DeepEqual(read, got) {
		t.Errorf("Read: %+v\nAppend: %+v", read, got)
	}
	if read := collect(t, l.ReadStream(t.Context(), "sandbox/1", 1)); !reflect.DeepEqual(read, got) {
		t.Errorf("ReadStream: %+v\nAppend: %+v", read, got)
	}
}

func testNumbers(t *testing.T, m Maker) {
	l := m.open(t)
	records := fill(t, l, 100, "a", "ab", "a/b")
	for i, r := range records {
		if r.Sequence != eventlog.Sequence(i+1) || r.Version != eventlog.Version(i/3+1) {
			t.Fatalf("record %d: sequence %d, version %d", i, r.Sequence, r.Version)
		}
	}
	if got := collect(t, l.Read(t.Context(), 1)); !reflect.DeepEqual(got, records) {
		t.Errorf("Read differs from what Append returned")
	}
	for i, s := range []eventlog.Stream{"a", "ab", "a/b"} {
		got := collect(t, l.ReadStream(t.Context(), s, 1))
		for j, r := range got {
			if want := records[3*j+i]; !reflect.DeepEqual(r, want) {
				t.Fatalf("stream %q: version %d: got %+v, want %+v", s, j+1, r, want)
			}
		}
		if want := (100 - i + 2) / 3; len(got) != want {
			t.Errorf("stream %q: %d records, want %d", s, len(got), want)
		}
	}
}

func testSeveralEntries(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "s", 0, entry(0))
	got := put(t, l, "s", 1, entry(1), entry(2), entry(3))
	for i, r := range got {
		if r.Sequence != eventlog.Sequence(i+2) || r.Version != eventlog.Version(i+2) {
			t.Errorf("entry %d: sequence %d, version %d", i, r.Sequence, r.Version)
		}
	}
	if len(got) != 3 || l.Last() != 4 {
		t.Errorf("%d records, last is %d", len(got), l.Last())
	}
}

func testWrongVersion(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "s", 0, entry(0), entry(1))
	for _, expected := range []eventlog.Version{0, 1, 3, ^eventlog.Version(0)} {
		_, err := l.Append(t.Context(), eventlog.Append{Stream: "s", Expected: expected, Entries: []eventlog.Entry{entry(2)}})
		var wrong *eventlog.WrongVersionError
		if !errors.As(err, &wrong) || !errors.Is(err, eventlog.ErrWrongVersion) {
			t.Fatalf("expected %d: %v", expected, err)
		}
		if want := (eventlog.WrongVersionError{Stream: "s", Expected: expected, Actual: 2}); *wrong != want {
			t.Errorf("expected %d: %+v, want %+v", expected, *wrong, want)
		}
	}
	_, err := l.Append(t.Context(), eventlog.Append{Stream: "new", Expected: 1, Entries: []eventlog.Entry{entry(0)}})
	if !errors.Is(err, eventlog.ErrWrongVersion) {
		t.Errorf("a stream that doesn't exist, at version 1: %v", err)
	}
	if l.Last() != 2 {
		t.Errorf("Last() = %d, want 2", l.Last())
	}
	put(t, l, "s", 2, entry(2))
}

// testRace has many writers expect the same version of a stream at once.
func testRace(t *testing.T, m Maker) {
	l := m.open(t)
	const writers, rounds = 8, 20
	for v := range eventlog.Version(rounds) {
		errs := make(chan error, writers)
		for w := range writers {
			go func() {
				_, err := l.Append(context.Background(), eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{entry(w)}})
				errs <- err
			}()
		}
		won := 0
		for range writers {
			switch err := <-errs; {
			case err == nil:
				won++
			case !errors.Is(err, eventlog.ErrWrongVersion):
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("version %d: %d writers won", v, won)
		}
	}
	if got := collect(t, l.ReadStream(t.Context(), "s", 1)); len(got) != rounds {
		t.Errorf("%d records, want %d", len(got), rounds)
	}
}

// testOrderOfAnswers mixes successful appends with ones that are refused at each
// stage: none overtakes another, not even within one stream.
func testOrderOfAnswers(t *testing.T, m Maker) {
	l := m.open(t)
	const n = 300
	answers := make(chan int, n)
	for i := range n {
		a := eventlog.Append{Stream: "s", Expected: eventlog.Version(i / 3), Entries: []eventlog.Entry{entry(i)}}
		want := error(nil)
		switch i % 3 {
		case 1:
			a.Expected, want = 10*n, eventlog.ErrWrongVersion
		case 2:
			a.Stream, want = "", eventlog.ErrInvalid
		}
		l.AppendAsync(a, func(_ []eventlog.Record, err error) {
			if !errors.Is(err, want) {
				t.Errorf("append %d: %v, want %v", i, err, want)
			}
			answers <- i
		})
	}
	for i := range n {
		if got := <-answers; got != i {
			t.Fatalf("answer %d is that of append %d", i, got)
		}
	}
}

func testReadYourWrites(t *testing.T, m Maker) {
	l := m.open(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			s := eventlog.Stream(fmt.Sprintf("s/%d", w))
			for v := range eventlog.Version(25) {
				records, err := l.Append(context.Background(), eventlog.Append{Stream: s, Expected: v, Entries: []eventlog.Entry{entry(int(v))}})
				if err != nil {
					t.Error(err)
					return
				}
				if last := l.Last(); last < records[0].Sequence {
					t.Errorf("Last() = %d after record %d", last, records[0].Sequence)
				}
				got := take(t, 1, l.ReadStream(context.Background(), s, v+1))
				if !reflect.DeepEqual(got, records) {
					t.Errorf("read %+v, appended %+v", got, records)
				}
			}
		})
	}
	wg.Wait()
}

func testConcurrency(t *testing.T, m Maker) {
	l := m.open(t)
	const writers, each = 16, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			s := eventlog.Stream(fmt.Sprintf("writer/%d", w))
			for v := range eventlog.Version(each) {
				_, err := l.Append(context.Background(), eventlog.Append{Stream: s, Expected: v, Entries: []eventlog.Entry{entry(int(v))}})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	checkNumbers(t, collect(t, l.Read(t.Context(), 1)), writers*each)
}

// checkNumbers checks that records are a complete log: sequences and versions
// have no gaps.
func checkNumbers(t testing.TB, records []eventlog.Record, want int) {
	t.Helper()
	if len(records) != want {
		t.Fatalf("%d records, want %d", len(records), want)
	}
	versions := make(map[eventlog.Stream]eventlog.Version)
	for i, r := range records {
		versions[r.Stream]++
		if r.Sequence != eventlog.Sequence(i+1) || r.Version != versions[r.Stream] {
			t.Fatalf("record %d of the log, %d of stream %q: sequence %d, version %d",
				i+1, versions[r.Stream], r.Stream, r.Sequence, r.Version)
		}
	}
}

func testBuffers(t *testing.T, m Maker) {
	l := m.open(t)
	payload := []byte("before")
	records := put(t, l, "s", 0, eventlog.Entry{Type: "t", Payload: payload})
	copy(payload, "AFTER!")
	for _, r := range append(records, collect(t, l.Read(t.Context(), 1))...) {
		if !bytes.Equal(r.Payload, []byte("before")) {
			t.Errorf("payload is %q", r.Payload)
		}
	}
}

func testBadRequests(t *testing.T, m Maker) {
	l := m.open(t)
	long := strings.Repeat("x", eventlog.MaxName+1)
	good := entry(0)
	with := func(change func(*eventlog.Entry)) []eventlog.Entry {
		e := good
		change(&e)
		return []eventlog.Entry{good, e} // the second, so that the first must not go in either
	}
	for name, a := range map[string]eventlog.Append{
		"no stream":            {Entries: []eventlog.Entry{good}},
		"long stream":          {Stream: eventlog.Stream(long), Entries: []eventlog.Entry{good}},
		"zero byte in stream":  {Stream: "a\x00b", Entries: []eventlog.Entry{good}},
		"space in stream":      {Stream: "a b", Entries: []eventlog.Entry{good}},
		"non-ASCII stream":     {Stream: "sandböx", Entries: []eventlog.Entry{good}},
		"no entries":           {Stream: "s"},
		"too many entries":     {Stream: "s", Entries: make([]eventlog.Entry, eventlog.MaxEntries+1)},
		"no type":              {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Type = "" })},
		"long type":            {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Type = long })},
		"newline in command":   {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Cause.Command = "a\nb" })},
		"long command":         {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Cause.Command = long })},
		"escape code in trace": {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Cause.Trace = "\x1b[2J" })},
		"long trace":           {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Cause.Trace = long })},
		"large payload":        {Stream: "s", Entries: with(func(e *eventlog.Entry) { e.Payload = make([]byte, eventlog.MaxPayload+1) })},
	} {
		if _, err := l.Append(t.Context(), a); !errors.Is(err, eventlog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", long, "a b", "a\x00b"} {
		if err := l.SaveCheckpoint(t.Context(), name, eventlog.Delta{}); !errors.Is(err, eventlog.ErrInvalid) {
			t.Errorf("SaveCheckpoint(%q): %v", name, err)
		}
		if _, _, err := l.LoadCheckpoint(t.Context(), name); !errors.Is(err, eventlog.ErrInvalid) {
			t.Errorf("LoadCheckpoint(%q): %v", name, err)
		}
	}
	if l.Last() != 0 {
		t.Errorf("Last() = %d after bad requests only", l.Last())
	}
	put(t, l, "s", 0, good)
}

func testLimits(t *testing.T, m Maker) {
	l := m.open(t)
	long := strings.Repeat("~", eventlog.MaxName)
	big := eventlog.Entry{
		Type: long, Schema: ^uint32(0),
		Cause:   eventlog.Cause{Command: long, Event: ^eventlog.Sequence(0), Trace: long},
		Payload: bytes.Repeat([]byte{0xa5}, eventlog.MaxPayload),
	}
	records := put(t, l, eventlog.Stream(long), 0, big)
	many := make([]eventlog.Entry, eventlog.MaxEntries)
	for i := range many {
		many[i] = eventlog.Entry{Type: "!"}
	}
	records = append(records, put(t, l, "!", 0, many...)...)
	if got := collect(t, l.Read(t.Context(), 1)); !reflect.DeepEqual(got, records) {
		t.Errorf("read differs from what was appended")
	}
	if got := collect(t, l.ReadStream(t.Context(), eventlog.Stream(long), 1)); !reflect.DeepEqual(got, records[:1]) {
		t.Errorf("the stream with the long name differs")
	}
}

func testAppendContext(t *testing.T, m Maker) {
	l := m.open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := l.Append(ctx, eventlog.Append{Stream: "s", Entries: []eventlog.Entry{entry(0)}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v", err)
	}
	if err := l.SaveCheckpoint(ctx, "s", eventlog.Delta{}); !errors.Is(err, context.Canceled) {
		t.Errorf("SaveCheckpoint: %v", err)
	}
	if l.Last() != 0 {
		t.Errorf("Last() = %d", l.Last())
	}

	// A context that ends at any moment: the answer is never a lie.
	v := eventlog.Version(0)
	for i := range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for range i {
				l.Last() // some time passes
			}
			cancel()
		}()
		_, err := l.Append(ctx, eventlog.Append{Stream: "s", Expected: v, Entries: []eventlog.Entry{entry(i)}})
		// This one comes after the other, which is therefore decided now.
		put(t, l, "fence", eventlog.Version(i), entry(i))
		there := len(collect(t, l.ReadStream(t.Context(), "s", v+1))) == 1
		switch {
		case err == nil && !there:
			t.Fatalf("append %d succeeded, but is not there", i)
		case err != nil && !errors.Is(err, context.Canceled):
			t.Fatalf("append %d: %v", i, err)
		case err != nil && !errors.Is(err, eventlog.ErrOutcomeUnknown) && there:
			t.Fatalf("append %d was withdrawn (%v), but is there", i, err)
		}
		if there {
			v++
		}
	}
}

func testHealth(t *testing.T, m Maker) {
	l := m.open(t)
	put(t, l, "s", 0, entry(0))
	if err := l.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
	l.Close()
	if err := l.Health(); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("Health after Close: %v", err)
	}
}
