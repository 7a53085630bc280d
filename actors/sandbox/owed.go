package sandbox

// Owed names the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	switch s.Phase {
	case Creating:
		return owedCreation(s)
	case Unwinding, Stopping, Stopped, Removing, Failed, Removed:
		return owedUndoing(s)
	case Absent, Ready:
	}
	return nil
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
