package container

import "slices"

// Owed returns the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	var owed []Effect
	switch s.Phase {
	case Creating:
		owed = owedCreation(s)
	case Starting:
		owed = slices.Concat(owedStart(s), owedStopping(s), owedUpdates(s))
	case Created, Running:
		// An update comes last: the end of a container does not wait for its limits.
		owed = append(owedStopping(s), owedUpdates(s)...)
	case Exited:
		owed = append(owedKill(s), owedUpdates(s)...)
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
