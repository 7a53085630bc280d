package sandbox

// Owed returns the effects that the state still calls for, in a fixed order.
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

// Announced reports whether the state already promises that e follows the effect under
// way, and owes the undoing of both. Then e need not wait until the other's outcome is
// durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case AttachNetwork, StartHolder:
		return s.Phase == Creating
	default: // The others depend on the outcome before them.
	}
	return false
}
