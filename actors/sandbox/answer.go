package sandbox

import "github.com/stele-runtime/stele/actors/fault"

// The functions of this file say when a caller gets its answer. Each is called first
// with the state right after the command and no event, then with every later event and
// the state after it, until it reports done.

// RunAnswer answers Run: success once the sandbox is ready, the failure once the name is
// free again: what was begun is undone, or undoing it has failed and goes on.
func RunAnswer(s State, _ Event) (done bool, err error) {
	switch s.Phase {
	case Ready:
		return true, nil
	case Absent, Creating:
		return false, nil
	case Unwinding:
		return s.UndoFailed, s.Failure.Err()
	case Failed:
		return true, s.Failure.Err()
	case Stopping, Stopped, Removing, Removed:
	}
	if s.Failure.Failed() {
		return true, s.Failure.Err()
	}
	return true, fault.New(fault.Unavailable, "run pod sandbox", string(s.ID), "it was stopped while it was being created")
}

// StopAnswer answers Stop: success once no process of the pod runs and detaching the
// network was tried, a failure as soon as a necessary step fails, although that step
// stays owed.
func StopAnswer(s State, e Event) (done bool, err error) {
	switch s.Phase {
	case Absent, Stopped, Removing, Removed, Failed:
		return true, nil
	case Creating, Ready, Unwinding, Stopping:
	}
	return undoFailed(e)
}

// UpdateAnswer answers UpdateResources: at once.
func UpdateAnswer(State, Event) (done bool, err error) { return true, nil }

// RemoveAnswer answers Remove: success once the sandbox is gone.
func RemoveAnswer(s State, e Event) (done bool, err error) {
	switch s.Phase {
	case Absent, Removed, Failed:
		return true, nil
	case Creating, Ready, Unwinding, Stopping, Stopped, Removing:
	}
	return undoFailed(e)
}

func undoFailed(e Event) (bool, error) {
	switch e := e.(type) {
	case ContainerStopFailed:
		return true, e.Fault.Err()
	case ContainerRemoveFailed:
		return true, e.Fault.Err()
	case HolderStopFailed:
		return true, e.Fault.Err()
	case SandboxReleaseFailed:
		return true, e.Fault.Err()
	default: // Other events are no answer.
	}
	return false, nil
}
