package projections

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// lived runs the whole life of a pod with one container.
func lived(t fatal, log *memlog.Log, pod, name string) {
	s, c := newSandbox(pod), newContainer(name)
	run := runOf(pod, epoch)
	run.Name = sandbox.Name{Name: "web-" + pod, Namespace: "shop", UID: "u", Attempt: 2}
	run.SharedPID = false
	create := createOf(name, pod, epoch.Add(time.Second))
	create.Name = container.Name{Name: "app", Attempt: 3}
	steps := []error{
		s.do(log, run), s.do(log, sandbox.PrepareSandboxDone{}), s.do(log, sandbox.AttachNetworkDone{}),
		s.do(log, sandbox.AddContainer{Container: id.Container(name)}),
		c.do(log, create), c.do(log, container.PrepareRootfsDone{}),
		c.do(log, container.CreateRuntimeDone{Process: container.Process{PID: 42}}),
		c.do(log, container.Remove{}), c.do(log, container.KillDone{}), c.do(log, container.RecordExit{Exit: container.Exit{Code: 137}}),
		c.do(log, container.DeleteRuntimeDone{}), c.do(log, container.ReleaseRootfsDone{}),
		s.do(log, sandbox.ForgetContainer{Container: id.Container(name)}),
		s.do(log, sandbox.Stop{}), s.do(log, sandbox.DetachNetworkDone{}), s.do(log, sandbox.Remove{}), s.do(log, sandbox.ReleaseSandboxDone{}),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	if !sandbox.Ended(s.at.State) || !container.Ended(c.at.State) {
		t.Fatal("the pod has not ended", s.at.State.Phase, c.at.State.Phase)
	}
}

func TestHistory(t *testing.T) {
	log := newMemlog(t)
	lived(t, log, "p1", "c1")
	lived(t, log, "p2", "c2")
	if err := newSandbox("alive").do(log, runOf("alive", epoch)); err != nil {
		t.Fatal(err)
	}
	failed := newSandbox("failed")
	for _, c := range []sandbox.Command{sandbox.Run{ID: "failed", HostNetwork: true, At: epoch}, sandbox.PrepareSandboxDone{Err: errBroken}, sandbox.ReleaseSandboxDone{}} {
		if err := failed.do(log, c); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		f := opened(t, log)
		defer save(t, f)
		var streams []string
		for _, e := range f.History.Ended() {
			streams = append(streams, string(e.Stream))
		}
		if !slices.Equal(streams, []string{"container/c1", "sandbox/p1", "container/c2", "sandbox/p2", "sandbox/failed"}) {
			t.Fatalf("%s: ended are %v", when, streams)
		}
		for _, e := range f.History.Ended() {
			var last eventlog.Sequence
			for r := range log.ReadStream(t.Context(), e.Stream, 1) {
				last = r.Sequence
			}
			if e.Sequence != last {
				t.Errorf("%s: %s ends at %d, not %d", when, e.Stream, last, e.Sequence)
			}
		}
	}
	check("from the log")
	check("from a checkpoint")
}

// The history is bounded, and lists that were handed out never change.
func TestHistoryIsBounded(t *testing.T) {
	h := &History{}
	for i := range historyKept {
		h.add(Ended{Stream: eventlog.Stream(fmt.Sprint(i))})
	}
	full := h.Ended()
	h.add(Ended{Stream: "one more"})
	now := h.Ended()
	if len(full) != historyKept || full[0].Stream != "0" || len(now) != historyKept || now[0].Stream != "1" || now[historyKept-1].Stream != "one more" {
		t.Errorf("%d and %d are remembered, from %s and %s on", len(full), len(now), full[0].Stream, now[0].Stream)
	}
}
