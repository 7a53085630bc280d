package sandbox

import (
	"github.com/stele-runtime/stele/actors/fault"
)

// Facts returns events that lead to a state whose own events are lost. Retries are left out: they
// are due at once then.
func Facts(s State) []Event {
	if s.Phase == Absent {
		return nil
	}
	facts := []Event{SandboxRequested{
		ID: s.ID, Name: s.Name, Handler: s.Handler, Config: s.Config, ConfigDigest: s.ConfigDigest,
		HostNetwork: s.HostNetwork, SharedPID: s.SharedPID, At: s.CreatedAt,
	}}
	return append(append(facts, factsOfCreation(s)...), factsOfEnd(s)...)
}

func factsOfCreation(s State) (facts []Event) {
	if s.Prepared {
		facts = append(facts, SandboxPrepared{})
	}
	if s.Network.Attached {
		facts = append(facts, NetworkAttached{IPs: s.Network.IPs})
	}
	if s.Holder.PID != 0 {
		facts = append(facts, HolderStarted{s.Holder.PID})
	}
	if s.Holder.Exited {
		facts = append(facts, HolderEnded{Code: unknownCode})
	}
	if len(s.UpdatedResources) > 0 {
		facts = append(facts, ResourcesUpdated{s.UpdatedResources})
	}
	for _, c := range s.Containers {
		facts = append(facts, ContainerAdded{c.ID})
		if c.Stopped {
			facts = append(facts, ContainerStopped{c.ID})
		}
	}
	return facts
}

// unknownCode is the exit code of a holder whose end is all that is known.
const unknownCode = -1

func factsOfEnd(s State) (facts []Event) {
	switch s.Phase {
	case Unwinding, Failed:
		facts = append(facts, SandboxPrepareFailed{s.Failure})
	case Ready:
		facts = append(facts, SandboxReady{})
	case Stopping, Stopped, Removing, Removed:
		if s.Failure == (fault.Fault{}) {
			facts = append(facts, StopRequested{})
		} else {
			facts = append(facts, SandboxReady{}, SandboxLost{s.Failure})
		}
	case Absent, Creating:
	}
	if s.RemoveRequested {
		facts = append(facts, RemoveRequested{})
	}
	if s.Holder.Stopped {
		facts = append(facts, HolderStopped{})
	}
	if s.Network.Detached {
		facts = append(facts, NetworkDetached{})
	}
	if s.UndoFailed {
		facts = append(facts, SandboxReleaseFailed{Fault: s.Failure})
	}
	if s.Phase == Stopped || s.Phase == Removing || s.Phase == Removed {
		facts = append(facts, SandboxStopped{})
	}
	if s.Released {
		facts = append(facts, SandboxReleased{})
	}
	switch s.Phase {
	case Failed:
		facts = append(facts, SandboxFailed{})
	case Removed:
		facts = append(facts, SandboxRemoved{})
	case Absent, Creating, Ready, Unwinding, Stopping, Stopped, Removing:
	}
	return facts
}

// Vanished returns the events of a sandbox of which nothing is left, as the node shows, and whose
// own events of that are lost.
func Vanished(s State) []Event {
	if Ended(s) {
		return nil
	}
	var facts []Event
	for _, c := range s.Containers {
		facts = append(facts, ContainerForgotten{c.ID})
	}
	if s.holderOwed() {
		facts = append(facts, HolderStopped{})
	}
	if s.networkOwed() {
		facts = append(facts, NetworkDetached{})
	}
	switch s.Phase {
	case Failed, Removed:
		return facts
	case Unwinding:
		return append(facts, SandboxReleased{}, SandboxFailed{})
	case Creating, Ready:
		facts = append(facts, StopRequested{})
	case Absent, Stopping, Stopped, Removing:
	}
	return append(facts, RemoveRequested{}, SandboxStopped{}, SandboxReleased{}, SandboxRemoved{})
}
