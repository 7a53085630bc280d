package sandbox

import "github.com/stele-runtime/stele/actors/fault"

// Holder is what the machine knows of the process that holds the pod's shared
// PID namespace.
type Holder struct {
	// Begun is true as soon as the process may exist.
	Begun bool `json:",omitempty"`
	// PID is the process id on the node, 0 before the start.
	PID int `json:",omitempty"`
	// Exited is true once the process was seen to have ended.
	Exited bool `json:",omitempty"`
	// Stopped is true once nothing of the holder is left.
	Stopped bool `json:",omitempty"`
}

func decideHolderStarted(s State, c StartHolderDone) []Event {
	if c.Err != nil {
		return []Event{HolderStartFailed{failure(s, "start the pod's init", c.Err)}}
	}
	return []Event{HolderStarted{c.PID}}
}

func decideHolderExited(s State, c HolderExited) []Event {
	if !s.Holder.Begun || s.Holder.Exited || s.final() {
		return nil
	}
	events := []Event{HolderEnded(c)}
	if s.Phase == Creating || s.Phase == Ready {
		f := fault.New(fault.Unavailable, "hold the pod's PID namespace", string(s.ID), "the pod's init ended with code %d", c.Code)
		events = append(events, SandboxLost{*f})
	}
	return events
}

func decideHolderStopped(s State, c StopHolderDone) []Event {
	if c.Err != nil {
		return []Event{HolderStopFailed{failure(s, "stop the pod's init", c.Err), s.Retries.Next(StopHolder{}.Key(), c.At)}}
	}
	return []Event{HolderStopped{}}
}

func (s State) holderOwed() bool { return s.Holder.Begun && !s.Holder.Stopped }

func owedStartHolder(s State) []Effect {
	if !s.Holder.Begun || s.Holder.PID != 0 {
		return nil
	}
	return []Effect{StartHolder{Pod: s.pod()}}
}

func owedStopHolder(s State) []Effect {
	if !s.holderOwed() {
		return nil
	}
	return []Effect{StopHolder{s.pod(), s.retry(StopHolder{})}}
}
