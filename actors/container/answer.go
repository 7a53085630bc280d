package container

import (
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// The functions of this file say when a caller has its answer. Each is asked
// first with the state as the command left it and no event, then after every
// later event with the state that it led to, until it reports done.

// CreateAnswer is the answer to Create: success once the runtime made the
// container, the failure once what was begun is undone.
func CreateAnswer(s State, _ Event) (done bool, err error) {
	switch s.Phase {
	case Absent, Creating, Unwinding:
		return false, nil
	case Failed:
		return true, s.Failure.Err()
	case Created, Starting, Running, Exited:
		return true, nil
	case Removing, Removed:
	}
	return true, fault.New(fault.Unavailable, "create container", string(s.ID), "it was removed while it was being created")
}

// StartAnswer is the answer to Start. A program that ended right after its
// start was started.
func StartAnswer(s State, _ Event) (done bool, err error) {
	switch {
	case s.Phase == Starting:
		return false, nil
	case !s.Run.StartedAt.IsZero():
		return true, nil
	case s.Failure.Failed():
		return true, s.Failure.Err()
	}
	return true, fault.New(fault.Precondition, "start container", string(s.ID), "it is %s, not created", s.Phase)
}

// StopAnswer is the answer to Stop: success once no process is left or can come
// to life any more, the failure as soon as something that is needed for it fails,
// although it stays owed.
func StopAnswer(s State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case KillFailed:
		return true, e.Fault.Err()
	case RuntimeDeleteFailed:
		return true, e.Fault.Err()
	default: // Every other event leaves the caller waiting, if the state does.
	}
	// What is being undone may still be being made: the outcome comes later.
	undoing := s.Phase == Unwinding || s.Phase == Removing
	beingMade := undoing && !s.Removal.RuntimeDeleted && !s.Run.ExitSeen
	return !s.stoppable() && !Alive(s) && !beingMade || s.final(), nil
}

// RemoveAnswer is the answer to Remove: success once the container is gone.
func RemoveAnswer(s State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case RuntimeDeleteFailed:
		return true, e.Fault.Err()
	case RootfsReleaseFailed:
		return true, e.Fault.Err()
	default: // Every other event leaves the caller waiting.
	}
	return s.final() || s.Phase == Absent, nil
}

// ExecAnswer is the answer to RunExec.
func ExecAnswer(x id.Exec) func(State, Event) (bool, error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ExecEnded:
			return e.Exec == x, nil
		case ExecFailed:
			if e.Exec == x {
				return true, e.Fault.Err()
			}
		default: // Every other event leaves the caller waiting.
		}
		return false, nil
	}
}

// ReopenAnswer is the answer to ReopenLog: success once every reopening that
// had been asked for is done.
func ReopenAnswer(s State, e Event) (done bool, err error) {
	if f, failed := e.(LogReopenFailed); failed {
		return true, f.Fault.Err()
	}
	return s.Logs.ReopensDone >= s.Logs.ReopensAsked, nil
}
