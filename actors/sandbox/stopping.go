package sandbox

import "github.com/stele-runtime/stele/actors/fault"

func decideStop(s State) []Event {
	// A caller who repeats the request wants failed effects retried now.
	again := s.Phase == Stopping && len(s.Retries) > 0
	if s.Phase == Creating || s.Phase == Ready || again {
		return []Event{StopRequested{}}
	}
	return nil
}

func decideRemove(s State) []Event {
	switch s.Phase {
	case Creating, Ready:
		return []Event{StopRequested{}, RemoveRequested{}}
	case Stopping, Stopped:
		if !s.RemoveRequested || len(s.Retries) > 0 {
			return []Event{RemoveRequested{}}
		}
	case Unwinding, Removing:
		// As in decideStop.
		if len(s.Retries) > 0 {
			return []Event{RemoveRequested{}}
		}
	case Absent, Failed, Removed:
	}
	return nil
}

func decideRebooted(s State) []Event {
	if s.Phase == Creating || s.Phase == Ready {
		return []Event{SandboxLost{*fault.New(fault.Interrupted, "run pod sandbox", string(s.ID), "the node was rebooted")}}
	}
	return nil
}

func decideReleased(s State, c ReleaseSandboxDone) []Event {
	if c.Err != nil {
		return []Event{SandboxReleaseFailed{failure(s, "release sandbox", c.Err), s.Retries.Next(ReleaseSandbox{}.Key(), c.At)}}
	}
	return []Event{SandboxReleased{}}
}

func (s *State) removeRequested() {
	s.RemoveRequested = true
	s.Retries.Now()
	if s.Phase == Stopped {
		s.Phase = Removing
	}
}

func (s *State) lost(f fault.Fault) {
	if s.Phase == Creating {
		s.createFailed(f)
		return
	}
	s.Phase, s.Failure = Stopping, f
}

func (s *State) stopped() {
	s.Phase = Stopped
	if s.RemoveRequested {
		s.Phase = Removing
	}
}

// owedUndoing takes the pod down from the outside in: containers, then holder and
// network (neither waits for the other), then what both of them stood on.
func owedUndoing(s State) []Effect {
	owed := owedContainers(s)
	if !s.containersStopped() {
		return owed
	}
	owed = append(owed, owedStopHolder(s)...)
	owed = append(owed, owedDetach(s)...)
	releasing := s.Phase == Unwinding || s.Phase == Removing && len(s.Containers) == 0
	if releasing && !s.Released && !s.holderOwed() && s.networkTried() {
		owed = append(owed, ReleaseSandbox{s.pod(), s.retry(ReleaseSandbox{})})
	}
	return owed
}
