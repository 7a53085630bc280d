package sandbox

import "github.com/stele-runtime/stele/actors/fault"

// The functions of this file say when a caller has its answer. Each is asked
// first with the state as the command left it and no event, then after every
// later event with the state that it led to, until it reports done.

// RunAnswer is the answer to Run: success once the sandbox is ready, the
// failure once what was begun is undone, so that the name is free again.
func RunAnswer(s State, _ Event) (done bool, err error) {
	switch s.Phase {
	case Ready:
		return true, nil
	case Absent, Creating, Unwinding:
		return false, nil
	case Failed:
		return true, s.Failure.Err()
	case Stopping, Stopped, Removing, Removed:
	}
	if s.Failure.Failed() {
		return true, s.Failure.Err()
	}
	return true, fault.New(fault.Unavailable, "run pod sandbox", string(s.ID), "it was stopped while it was being created")
}

// StopAnswer is the answer to Stop: success once no process of the pod runs and
// the network had its chance to detach; the failure as soon as something that
// is needed for it fails, although it stays owed.
func StopAnswer(s State, e Event) (done bool, err error) {
	switch s.Phase {
	case Absent, Stopped, Removing, Removed, Failed:
		return true, nil
	case Creating, Ready, Unwinding, Stopping:
	}
	return undoFailed(e)
}

// RemoveAnswer is the answer to Remove: success once the sandbox is gone.
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
	default: // Every other event leaves the caller waiting.
	}
	return false, nil
}
