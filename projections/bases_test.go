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
			err = log.Trim(t.Context(), eventlog.Trim{Stream: a.stream, Through: a.at.Version, Schema: c.schema, State: state})
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
