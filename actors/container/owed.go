package container

// Owed names the effects that the state still calls for, in a fixed order.
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

// Announced reports whether the state says already that an effect comes once the one
// under way is done, and owes the undoing of both. Then the effect need not wait until
// the outcome of the other is durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case CreateRuntime:
		return s.Phase == Creating
	case ReleaseRootfs:
		return s.Phase == Unwinding || s.Phase == Removing
	default: // What the others need is not known before.
	}
	return false
}
