package sandbox

// Owed names the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	if s.undoing() {
		return owedUndoing(s)
	}
	if s.Phase != Creating {
		return nil
	}
	if !s.Prepared {
		return []Effect{PrepareSandbox{Pod: s.pod()}}
	}
	var owed []Effect
	if s.Network.Begun && !s.Network.Attached {
		owed = append(owed, AttachNetwork{Pod: s.pod()})
	}
	if s.Holder.Begun && s.Holder.PID == 0 {
		owed = append(owed, StartHolder{Pod: s.pod()})
	}
	return owed
}

// Announced reports whether the state says already that an effect comes once the one
// under way is done, and owes the undoing of both. Then the effect need not wait until
// the outcome of the other is durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case AttachNetwork, StartHolder:
		return s.Phase == Creating
	default: // What the others need is not known before.
	}
	return false
}

// owedUndoing takes the pod down from the outside in: containers, then the
// holder and the network (which need each other's absence for nothing), then
// what both of them stood on.
func owedUndoing(s State) []Effect {
	var owed []Effect
	for _, c := range s.ContainerIDs() {
		switch {
		case !s.Containers[c]:
			owed = append(owed, StopContainer{Sandbox: s.ID, Container: c, due: s.retry(StopContainer{Container: c})})
		case s.Phase == Removing:
			owed = append(owed, RemoveContainer{Container: c, due: s.retry(RemoveContainer{Container: c})})
		}
	}
	if !s.containersStopped() {
		return owed
	}
	if s.holderOwed() {
		owed = append(owed, StopHolder{s.pod(), s.retry(StopHolder{})})
	}
	if s.networkOwed() {
		owed = append(owed, DetachNetwork{s.pod(), s.retry(DetachNetwork{})})
	}
	releasing := s.Phase == Unwinding || s.Phase == Removing && len(s.Containers) == 0
	if releasing && !s.Released && !s.holderOwed() && s.networkTried() {
		owed = append(owed, ReleaseSandbox{s.pod(), s.retry(ReleaseSandbox{})})
	}
	return owed
}
