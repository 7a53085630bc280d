package projections

import (
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// A stream whose beginning was trimmed is followed from its base, from the log and from a
// checkpoint that is older; what cannot be read of it puts it aside.
func TestTrimmedStream(t *testing.T) {
	for name, c := range map[string]struct {
		schema uint32
		after  bool
	}{"readable": {codec.StateSchema, false}, "behind a checkpoint": {codec.StateSchema, true}, "of the future": {codec.StateSchema + 1, false}} {
		t.Run(name, func(t *testing.T) {
			log := newMemlog(t)
			a := newSandbox("s")
			do := func(c sandbox.Command) {
				t.Helper()
				if err := a.do(log, c); err != nil {
					t.Fatal(err)
				}
			}
			do(runOf("s", epoch))
			if c.after {
				save(t, opened(t, log))
			}
			do(sandbox.PrepareSandboxDone{})
			state, err := codec.EncodeSandboxState(a.at.State)
			if err != nil {
				t.Fatal(err)
			}
			err = log.Trim(t.Context(), eventlog.Trim{Rule: "age", Stream: a.stream, Through: a.at.Version, Schema: c.schema, State: state})
			if err != nil {
				t.Fatal(err)
			}
			do(sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}})
			live := opened(t, log).Live
			s := live.Sandbox("s")
			if c.schema != codec.StateSchema {
				if s != nil || live.Damaged()[a.stream] == "" {
					t.Errorf("what cannot be read is %+v; damaged: %v", s, live.Damaged())
				}
				return
			}
			if s == nil || !s.State.Prepared || !s.State.Network.Attached || s.Version != a.at.Version || s.Config().GetHostname() == "" || len(live.Damaged()) != 0 {
				t.Errorf("followed as %+v; damaged: %v", s, live.Damaged())
			}
		})
	}
}

// A stream that was thinned out is followed across what is gone: when the log is read, and
// by a feed that lags. One whose records are missing is put aside.
func TestThinnedStream(t *testing.T) {
	for _, lags := range []bool{false, true} {
		log := newMemlog(t)
		i := newImage("i")
		pulled(t, log, i, "a")
		f := opened(t, log)
		pulled(t, log, i, "b")
		pulled(t, log, i, "c")
		if err := log.Thin(t.Context(), eventlog.Thin{Rule: "settled", Sequences: []eventlog.Sequence{3, 4}}); err != nil {
			t.Fatal(err)
		}
		if lags {
			running(t, f)
			if err := f.Await(t.Context(), log.Last()); err != nil {
				t.Fatal(err)
			}
		} else {
			f = opened(t, log)
		}
		if at, known := f.Image(t.Context(), i.stream); !known || at.Version != i.at.Version || len(f.Live.Damaged()) > 0 {
			t.Errorf("lags %v: it is at %d, put aside: %v", lags, at.Version, f.Live.Damaged())
		}
	}
}

// A feed does not wait for a record that was removed before it got there.
func TestThinnedEnd(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	i := newImage("i")
	pulled(t, log, i, "a")
	if err := log.Trim(t.Context(), eventlog.Trim{Rule: "age", Stream: i.stream, Through: i.at.Version, Whole: true}); err != nil {
		t.Fatal(err)
	}
	running(t, f)
	if err := f.Await(t.Context(), log.Last()); err != nil {
		t.Fatal(err)
	}
}
