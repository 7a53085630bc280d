package container

// Owed returns the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	var owed []Effect
	switch s.Phase {
	case Creating:
		owed = owedCreation(s)
	case Starting:
		owed = append(owedStart(s), owedStopping(s)...)
	case Created, Running:
		owed = owedStopping(s)
	case Exited:
		owed = owedKill(s)
	case Unwinding, Removing:
		owed = owedRemoval(s)
	case Absent, Failed, Removed:
	}
	owed = append(owed, owedExecs(s)...)
	return append(owed, owedLogs(s)...)
}

// Announced reports whether the state already promises that e follows the effect under
// way, and owes the undoing of both. Then e need not wait until the other's outcome is
// durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case CreateRuntime:
		return s.Phase == Creating
	case ReleaseRootfs:
		return s.Phase == Unwinding || s.Phase == Removing
	default: // The others depend on the outcome before them.
	}
	return false
}
