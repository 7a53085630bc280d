package container

import (
	"maps"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
)

// Facts returns events that lead to a state whose own events are lost. Commands that ran beside
// the container are left out, for they end with their daemon; so are retries, which are due at
// once then.
func Facts(s State) []Event {
	if s.Phase == Absent {
		return nil
	}
	r := s.Request
	facts := []Event{ContainerRequested{
		ID: s.ID, Sandbox: s.Sandbox, Name: s.Name, Handler: r.Handler, Config: r.Config, SandboxConfig: r.SandboxConfig,
		ConfigDigest: r.ConfigDigest, Image: r.Image, LogPath: r.LogPath, StopSignal: r.StopSignal, At: r.At,
	}}
	return slices.Concat(facts, factsOfCreation(s), factsOfRun(s), factsOfUse(s), factsOfRemoval(s))
}

func factsOfCreation(s State) (facts []Event) {
	if s.Creation.RootfsPrepared {
		facts = append(facts, RootfsPrepared{})
	}
	if s.Phase == Unwinding || s.Phase == Failed {
		facts = append(facts, ContainerCreateFailed{s.Failure})
	}
	if c := s.Creation; c.Process.PID != 0 {
		facts = append(facts, ContainerCreated{
			Process: c.Process, User: c.User, SharedPIDs: c.SharedPIDs,
			Adjustment: Adjustment{Plugins: c.Adjusted.Plugins, JSON: c.Adjusted.JSON, Resources: s.Resources.InForce},
		})
	}
	return facts
}

// factsOfRun has the end of the init before a failed start if that is the end that counts.
func factsOfRun(s State) (facts []Event) {
	failed := s.Failure != (fault.Fault{}) && s.Phase != Unwinding && s.Phase != Failed
	started := !s.Run.StartedAt.IsZero()
	if failed || started || s.Phase == Starting || !s.Run.RequestedAt.IsZero() {
		facts = append(facts, StartRequested{s.Run.RequestedAt})
	}
	if started {
		facts = append(facts, ContainerStarted{s.Run.StartedAt})
	}
	var ends []Event
	if s.Run.ExitSeen {
		ends = append(ends, ContainerExited{s.Run.Exit})
	}
	if failed {
		ends = append(ends, ContainerStartFailed{s.Failure, s.Run.Exit.At})
	}
	if s.Run.Exit == (Exit{Code: startErrorCode, At: s.Run.Exit.At}) {
		slices.Reverse(ends)
	}
	return append(facts, ends...)
}

// factsOfUse are what became of the container while it was there.
func factsOfUse(s State) (facts []Event) {
	for _, request := range slices.Sorted(maps.Keys(s.Stopping.Requests)) {
		facts = append(facts, StopRequested{request, s.Stopping.Requests[request]})
	}
	if s.Stopping.Signalled {
		facts = append(facts, StopSignalled{})
	}
	if s.Stopping.Killing {
		facts = append(facts, KillRequested{})
	}
	if s.Stopping.KillSent {
		facts = append(facts, Killed{})
	}
	if x := s.Resources; x.Asked > 0 && len(x.Pending) == 0 {
		facts = append(facts, ResourcesUpdateRequested{Update: x.Asked}, ResourcesUpdated{Update: x.Asked, Resources: x.InForce})
	}
	for _, u := range s.Resources.Pending {
		facts = append(facts, ResourcesUpdateRequested{Update: u.Number, Change: u.Change, ByPlugin: u.ByPlugin})
	}
	if s.Logs.ReopensAsked > 0 {
		facts = append(facts, LogReopenRequested{s.Logs.ReopensAsked})
	}
	if s.Logs.ReopensDone > 0 {
		facts = append(facts, LogReopened{s.Logs.ReopensDone})
	}
	if s.Logs.Lost > 0 {
		facts = append(facts, OutputLost{Bytes: s.Logs.Lost, Reason: "not known any more"})
	}
	if len(s.Blocked.Calls) > 0 || s.Blocked.Stop {
		facts = append(facts, SyscallsBlocked(s.Blocked))
	}
	return facts
}

func factsOfRemoval(s State) (facts []Event) {
	if s.Phase == Removing || s.Phase == Removed {
		facts = append(facts, RemoveRequested{})
	}
	if s.Creation.UndoFailed {
		facts = append(facts, RuntimeDeleteFailed{Fault: s.Failure})
	}
	if s.Removal.RuntimeDeleted {
		facts = append(facts, RuntimeDeleted{})
	}
	if s.Removal.RootfsReleased {
		facts = append(facts, RootfsReleased{})
	}
	switch s.Phase {
	case Failed:
		facts = append(facts, ContainerFailed{})
	case Removed:
		facts = append(facts, ContainerRemoved{})
	case Absent, Creating, Unwinding, Created, Starting, Running, Exited, Removing:
	}
	return facts
}

// Vanished returns the events of a container of which nothing is left, as the node shows, and
// whose own events of that are lost.
func Vanished(s State) []Event {
	if s.final() || s.Phase == Absent {
		return nil
	}
	const reason = "the events of its end are lost"
	var facts []Event
	for _, x := range slices.Sorted(maps.Keys(s.Execs)) {
		facts = append(facts, ExecFailed{x, *fault.New(fault.Interrupted, "exec", string(s.ID), reason)})
	}
	if Alive(s) {
		facts = append(facts, ContainerExited{Exit{Code: unknownCode, Unknown: reason}})
	}
	facts = append(facts, RemoveRequested{}, RuntimeDeleted{}, RootfsReleased{})
	if s.Phase == Unwinding {
		return append(facts, ContainerFailed{})
	}
	return append(facts, ContainerRemoved{})
}
