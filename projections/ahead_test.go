package projections

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Records and errors arrive in their order, with the events of those that can be decoded.
func TestAhead(t *testing.T) {
	encoded, err := codec.EncodeSandbox(sandbox.SandboxReady{})
	if err != nil {
		t.Fatal(err)
	}
	ready := eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload}
	for _, n := range []int{0, 1, aheadBatch - 1, aheadBatch, 10 * aheadBatch} {
		broken := errors.New("broken")
		records := func(yield func(eventlog.Record, error) bool) {
			for i := range n {
				r := eventlog.Record{Sequence: eventlog.Sequence(i), Stream: "sandbox/s", Entry: ready}
				var err error
				switch i % 5 {
				case 1:
					r.Payload = []byte{0xff}
				case 2:
					r.Stream = "node"
				case 3:
					r.Stream = "container/c"
				case 4:
					err = broken
				}
				if !yield(r, err) {
					return
				}
			}
		}
		next := 0
		for r, err := range ahead(records) {
			if int(r.Sequence) != next || errors.Is(err, broken) != (next%5 == 4) {
				t.Fatalf("record %d, %v, came in place %d", r.Sequence, err, next)
			}
			if _, ready := r.event.(sandbox.SandboxReady); ready != (next%5 == 0) || !ready && r.event != nil {
				t.Fatalf("record %d has the event %v", r.Sequence, r.event)
			}
			next++
		}
		if next != n {
			t.Errorf("%d of %d records came", next, n)
		}
	}
}

// Who leaves the iteration leaves nothing behind that reads on.
func TestAheadIsLeft(t *testing.T) {
	for _, after := range []int{1, aheadBatch, 3*aheadBatch + 1} {
		ended := false
		records := func(yield func(eventlog.Record, error) bool) {
			defer func() { ended = true }()
			for yield(eventlog.Record{Stream: "node"}, nil) {
			}
		}
		read := 0
		for range ahead(records) {
			if read++; read == after {
				break
			}
		}
		if !ended {
			t.Errorf("after %d records it is still read", after)
		}
	}
}

// What is decoded ahead makes no difference.
func TestAheadTakesTheSame(t *testing.T) {
	log := newMemlog(t)
	for _, name := range []string{"a", "b", "c"} {
		lived(t, log, "p"+name, "q"+name)
		if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
			t.Fatal(err)
		}
	}
	ahead, one := newFeed(log, Options{Logger: quiet}), newFeed(log, Options{Logger: quiet})
	if err := ahead.takeAll(log.Read(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	for r := range log.Read(t.Context(), 1) {
		one.take(r)
	}
	if diff := cmp.Diff(answers(one), answers(ahead)); diff != "" {
		t.Errorf("-one by one +ahead:\n%s", diff)
	}
}
