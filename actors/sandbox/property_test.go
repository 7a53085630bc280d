package sandbox_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/sandbox"
)

type walk = machinetest.Walk[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]

var rules = machinetest.Rules[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]{
	Machine:  underTest,
	Call:     call,
	Outcome:  outcome,
	Rebooted: func(time.Time) sandbox.Command { return sandbox.NodeRebooted{} },
	Nature:   func(sandbox.State, time.Time) (sandbox.Command, bool) { return nil, false },
	Final: func(s sandbox.State) bool {
		return s.Phase == sandbox.Failed || s.Phase == sandbox.Removed
	},
	Outlives: func(f sandbox.Effect) bool {
		_, network := f.(sandbox.DetachNetwork)
		return network
	},
	Waits: func(s sandbox.State) bool {
		return s.Phase == sandbox.Absent || s.Phase == sandbox.Ready || s.Phase == sandbox.Stopped
	},
	Hold: hold,
	End:  []sandbox.Command{sandbox.Stop{}, sandbox.Remove{}},
}

func call(t *rapid.T, w *walk) sandbox.Command {
	if w.Life.State.Phase == sandbox.Absent {
		return sandbox.Run{
			ID: "p1", Name: sandbox.Name{Name: "web", UID: "u1"}, ConfigDigest: "d1", At: w.Now,
			HostNetwork: rapid.Bool().Draw(t, "host network"), SharedPID: rapid.Bool().Draw(t, "shared PID"),
		}
	}
	c := id.Container(rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "container"))
	return rapid.SampledFrom([]sandbox.Command{
		sandbox.Run{ID: "p1", Name: sandbox.Name{Name: "web", UID: "u1"}, ConfigDigest: "d1", At: w.Now},
		sandbox.Run{ID: "p2", Name: sandbox.Name{Name: "web", UID: "u1"}, ConfigDigest: "d2", At: w.Now},
		sandbox.AddContainer{Container: c}, sandbox.AddContainer{Container: c}, sandbox.AddContainer{Container: c},
		sandbox.AdoptContainer{Container: c}, sandbox.ForgetContainer{Container: c},
		sandbox.UpdateResources{Resources: []byte(rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "resources"))},
		sandbox.Stop{}, sandbox.Remove{},
		sandbox.HolderExited{Code: 137, At: w.Now},
	}).Draw(t, "call")
}

func outcome(f sandbox.Effect, now time.Time) sandbox.Command {
	switch f.(type) {
	case sandbox.AttachNetwork:
		return sandbox.AttachNetworkDone{
			IPs: []string{"10.1.0.2"}, Result: []byte("result"), MappedPorts: []string{"8080/tcp to port 80"}, Unserved: []string{"bandwidth"},
		}
	case sandbox.StartHolder:
		return sandbox.StartHolderDone{PID: 4711}
	}
	return f.Failed(nil, now)
}

// hold checks the promises of phases.
func hold(t machinetest.TB, w *walk) {
	t.Helper()
	retold(t, w)
	ending(t, w)
	s := w.Life.State
	switch s.Phase {
	case sandbox.Ready:
		if !s.Prepared || !s.HostNetwork && !s.Network.Attached || s.SharedPID && s.Holder.PID == 0 {
			t.Fatalf("ready, but a step is missing\n%s", w.Life.History())
		}
	case sandbox.Stopped:
		for _, c := range s.Containers {
			if !c.Stopped {
				t.Fatalf("stopped, but container %s is not\n%s", c.ID, w.Life.History())
			}
		}
		if s.Holder.Begun && !s.Holder.Stopped {
			t.Fatalf("stopped, but the holder is not\n%s", w.Life.History())
		}
	case sandbox.Removed, sandbox.Failed:
		if !s.Released || len(s.Containers) > 0 {
			t.Fatalf("%s, but something is left\n%s", s.Phase, w.Life.History())
		}
	}
	// Detaching a network needs none of the sandbox's own resources, but containers and
	// the holder do.
	for _, f := range sandbox.Owed(s) {
		if _, release := f.(sandbox.ReleaseSandbox); release && (len(s.Containers) > 0 || s.Holder.Begun && !s.Holder.Stopped) {
			t.Fatalf("the release is owed while something stands on it\n%s", w.Life.History())
		}
	}
	if sandbox.Ended(s) != (sandbox.NameFree(s) && len(sandbox.Owed(s)) == 0) {
		t.Fatalf("Ended and NameFree contradict each other in %q\n%s", s.Phase, w.Life.History())
	}
}

// ending checks what a stream's last events say of its end.
func ending(t machinetest.TB, w *walk) {
	t.Helper()
	s, events := w.Life.State, w.Life.Events
	for i := range events {
		ended, known := sandbox.EndsWith(events[i:])
		if ended && (!known || !sandbox.Ended(s)) {
			t.Fatalf("it has not ended, and the events from number %d on say so\n%s", i, w.Life.History())
		}
		if _, detached := events[len(events)-1].(sandbox.NetworkDetached); i == 0 && (!known || !ended && sandbox.Ended(s) && !detached) {
			t.Fatalf("it has ended, and all of its events do not say so\n%s", w.Life.History())
		}
	}
}

func TestLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Lives(t, rules, 60) })
}

func TestSettled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Settled(t, rules, 90) })
}

func TestStrays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Strays(t, rules, 40) })
}

func TestEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Events(t, underTest, 40) })
}

// An effect is owed later after each failure, and never given up.
func TestStubborn(t *testing.T) {
	ready := []sandbox.Command{
		sandbox.Run{ID: "p1", SharedPID: true}, sandbox.PrepareSandboxDone{},
		sandbox.AttachNetworkDone{}, sandbox.StartHolderDone{PID: 4711}, sandbox.AddContainer{Container: "c1"}, sandbox.Remove{},
	}
	stopped := append(ready[:len(ready):len(ready)], sandbox.StopContainerDone{Container: "c1"})
	removing := append(stopped[:len(stopped):len(stopped)], sandbox.StopHolderDone{}, sandbox.DetachNetworkDone{})
	for key, commands := range map[string][]sandbox.Command{
		"stop container c1":   ready,
		"stop holder":         stopped,
		"detach network":      stopped,
		"remove container c1": removing,
		"release":             append(removing[:len(removing):len(removing)], sandbox.RemoveContainerDone{Container: "c1"}),
	} {
		t.Run(key, func(t *testing.T) { machinetest.Stubborn(t, rules, key, commands...) })
	}
}
