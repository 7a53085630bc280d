package container_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/machinetest"
)

type walk = machinetest.Walk[container.State, container.Command, container.Event, container.Effect]

var rules = machinetest.Rules[container.State, container.Command, container.Event, container.Effect]{
	Machine:  underTest,
	Call:     call,
	Outcome:  outcome,
	Nature:   nature,
	Rebooted: func(now time.Time) container.Command { return container.NodeRebooted{At: now} },
	Cancels: func(c, earlier container.Command) bool {
		withdraw, withdraws := c.(container.WithdrawStop)
		stop, stops := earlier.(container.Stop)
		return withdraws && stops && withdraw.Request == stop.Request
	},
	Final: func(s container.State) bool {
		return s.Phase == container.Failed || s.Phase == container.Removed
	},
	Outlives: func(container.Effect) bool { return false },
	Waits: func(s container.State) bool {
		switch s.Phase {
		case container.Absent, container.Created, container.Running, container.Exited:
			return true
		}
		return false
	},
	Hold: hold,
	End:  []container.Command{container.Stop{Request: "end"}, container.Remove{}},
}

func call(t *rapid.T, w *walk) container.Command {
	create := container.Create{
		ID: "c1", Sandbox: "p1", Name: container.Name{Name: "web"}, Config: []byte("config"), ConfigDigest: "d1", StopSignal: "SIGTERM", At: w.Now,
	}
	if w.Life.State.Phase == container.Absent {
		return create
	}
	request := rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "request")
	grace := time.Duration(rapid.SampledFrom([]int{0, 1, 5, 60}).Draw(t, "grace")) * time.Second
	other := create
	other.ConfigDigest = "d2"
	calls := []container.Command{
		create, other, container.Start{}, container.Start{}, container.Start{},
		container.Stop{Request: request, Grace: grace, At: w.Now}, container.Stop{Request: request, Grace: grace, At: w.Now},
		container.WithdrawStop{Request: request}, container.Remove{}, container.CallersLost{},
		container.RunExec{Exec: id.Exec(rapid.SampledFrom([]string{"x1", "x2", "x3"}).Draw(t, "exec")), Command: []string{"true"}},
		container.ReopenLog{},
		container.UpdateResources{Change: []byte{byte(rapid.IntRange(1, 3).Draw(t, "change"))}},
		container.ReportLoss{Bytes: uint64(rapid.IntRange(0, 3).Draw(t, "lost")), Reason: "no space left on device"},
		container.ReportBlocked{
			Calls: []container.BlockedSyscall{{Name: "swapoff", Count: uint64(rapid.IntRange(1, 9).Draw(t, "blocked"))}},
			Stop:  rapid.IntRange(0, 3).Draw(t, "stop") == 0,
		},
	}
	// The init can end as soon as the runtime is asked to make it.
	if w.Life.State.Creation.RootfsPrepared {
		late := time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds since the exit")) * time.Second
		calls = append(calls, container.RecordExit{Exit: container.Exit{Code: 3, At: w.Now.Add(-late)}})
	}
	// Most lives should get as far as a program that runs.
	if s := w.Life.State; (s.Phase == container.Creating || s.Phase == container.Created) && rapid.Bool().Draw(t, "start") {
		return container.Start{}
	}
	return rapid.SampledFrom(calls).Draw(t, "call")
}

func outcome(f container.Effect, now time.Time) container.Command {
	switch f := f.(type) {
	case container.CreateRuntime:
		return container.CreateRuntimeDone{Process: container.Process{PID: 4711, StartTime: 99}, SharedPIDs: now.Second()%2 == 0}
	case container.UpdateRuntime:
		return container.UpdateRuntimeDone{Update: f.Update, Resources: append(bytes.Clone(f.Spec.Resources), f.Change...)}
	}
	return f.Failed(nil, now)
}

// nature ends what was killed, and the monitor reports it.
func nature(s container.State, now time.Time) (container.Command, bool) {
	if !s.Stopping.KillSent || !container.Alive(s) {
		return nil, false
	}
	return container.RecordExit{Exit: container.Exit{Code: 137, Signal: 9, At: now}}, true
}

// hold checks the promises of phases and answers.
func hold(t machinetest.TB, w *walk) {
	t.Helper()
	retold(t, w)
	ending(t, w)
	s := w.Life.State
	for _, a := range w.Answered {
		// A caller who was told that the container is stopped never sees it alive.
		_, stop := a.Command.(container.Stop)
		if stop && a.Err == nil && a.At.Phase != container.Absent && (container.Alive(s) || s.Phase == container.Running) {
			t.Fatalf("the container lives although %s was answered\n%s", machinetest.Describe(a.Command), w.Life.History())
		}
		if stop && a.Err == nil && s.Phase == container.Exited && s.Creation.SharedPIDs && !s.Stopping.KillSent {
			t.Fatalf("others of its processes may live although %s was answered\n%s", machinetest.Describe(a.Command), w.Life.History())
		}
		_, start := a.Command.(container.Start)
		if start && a.Err == nil && s.Run.StartedAt.IsZero() {
			t.Fatalf("Start was answered, but nothing was started\n%s", w.Life.History())
		}
	}
	if s.Run.ExitSeen && s.Run.Exit.At.Before(s.Run.StartedAt) {
		t.Fatalf("it ended before it was started\n%s", w.Life.History())
	}
	switch s.Phase {
	case container.Created, container.Starting, container.Running:
		if s.Creation.Process.PID == 0 || !s.Creation.RootfsPrepared || s.Removal.RuntimeDeleted {
			t.Fatalf("%s without a process\n%s", s.Phase, w.Life.History())
		}
		if s.Phase != container.Starting && s.Run.ExitSeen {
			t.Fatalf("%s after its exit\n%s", s.Phase, w.Life.History())
		}
	case container.Exited:
		if !s.Run.ExitSeen && !s.Stopping.Killing {
			t.Fatalf("exited, but nothing ended or will end\n%s", w.Life.History())
		}
		if s.Run.Exit == (container.Exit{}) {
			t.Fatalf("exited without an exit\n%s", w.Life.History())
		}
	case container.Failed, container.Removed:
		if !s.Removal.RootfsReleased || !s.Removal.RuntimeDeleted || len(s.Execs) > 0 || len(s.Resources.Pending) > 0 {
			t.Fatalf("%s, but something is left\n%s", s.Phase, w.Life.History())
		}
	}
	holdOwed(t, w)
	if container.Ended(s) != (container.NameFree(s) && len(container.Owed(s)) == 0) {
		t.Fatalf("Ended and NameFree contradict each other in %q\n%s", s.Phase, w.Life.History())
	}
}

// holdOwed checks that nothing is owed that must not happen.
func holdOwed(t machinetest.TB, w *walk) {
	t.Helper()
	s := w.Life.State
	for _, f := range container.Owed(s) {
		// Every effect gets the configuration in force.
		if spec := reflect.ValueOf(f).FieldByName("Spec"); spec.IsValid() {
			config, resources := container.Config(s)
			has := spec.Interface().(container.Spec)
			if !bytes.Equal(has.Config, config) || !bytes.Equal(has.Resources, resources) {
				t.Fatalf("%s has another configuration\n%s", machinetest.Describe(f), w.Life.History())
			}
		}
		switch f.(type) {
		case container.Kill, container.SignalStop:
			asked := len(s.Stopping.Requests) > 0 || s.Stopping.Killing
			_, kill := f.(container.Kill)
			othersLeft := kill && s.Run.ExitSeen && s.Creation.SharedPIDs
			if (!asked || s.Run.ExitSeen) && !othersLeft {
				t.Fatalf("%s is owed without a reason\n%s", machinetest.Describe(f), w.Life.History())
			}
		case container.ReleaseRootfs:
			if !s.Removal.RuntimeDeleted {
				t.Fatalf("the root file system is owed its release under a container\n%s", w.Life.History())
			}
		case container.UpdateRuntime:
			if s.Removal.RuntimeDeleted || s.Creation.Process.PID == 0 {
				t.Fatalf("an update is owed to a container that is not there\n%s", w.Life.History())
			}
		case container.Execute:
			if s.Removal.RuntimeDeleted {
				t.Fatalf("a command is owed its run in a container that is gone\n%s", w.Life.History())
			}
		}
	}
}

// ending checks what a stream's last event says of its end.
func ending(t machinetest.TB, w *walk) {
	t.Helper()
	events := w.Life.Events
	if n := len(events); n > 0 && container.EndsWith(events[n-1]) != container.Ended(w.Life.State) {
		t.Fatalf("Ended and EndsWith contradict each other in %q\n%s", w.Life.State.Phase, w.Life.History())
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
	running := []container.Command{
		container.Create{ID: "c1"}, container.PrepareRootfsDone{},
		container.CreateRuntimeDone{Process: container.Process{PID: 4711}},
		container.Start{}, container.StartRuntimeDone{At: machinetest.Epoch},
	}
	with := func(more ...container.Command) []container.Command {
		return append(running[:len(running):len(running)], more...)
	}
	for key, commands := range map[string][]container.Command{
		"kill":           with(container.Stop{Request: "s1", At: machinetest.Epoch}),
		"delete":         with(container.Remove{}),
		"release rootfs": with(container.Remove{}, container.DeleteRuntimeDone{}),
	} {
		t.Run(key, func(t *testing.T) { machinetest.Stubborn(t, rules, key, commands...) })
	}
}
