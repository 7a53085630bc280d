package container

import (
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// The functions of this file say when a caller gets its answer. Each is called first
// with the state right after the command and no event, then with every later event and
// the state after it, until it reports done.

// CreateAnswer answers Create: success once the runtime made the container, the failure
// once the name is free again: what was begun is undone, or undoing it has failed and goes
// on.
func CreateAnswer(s State, _ Event) (done bool, err error) {
	switch s.Phase {
	case Absent, Creating:
		return false, nil
	case Unwinding:
		return s.Creation.UndoFailed, s.Failure.Err()
	case Failed:
		return true, s.Failure.Err()
	case Created, Starting, Running, Exited:
		return true, nil
	case Removing, Removed:
	}
	return true, fault.New(fault.Unavailable, "create container", string(s.ID), "it was removed while it was being created")
}

// JoinAnswer returns the answer to a Create that joins another one's container: that of the
// other one, or that the name is free, once a container that gave way is gone, or one whose
// creation had failed before.
func JoinAnswer() func(State, Event) (nameFree bool, done bool, err error) {
	superseded, failed := false, false
	return func(s State, e Event) (bool, bool, error) {
		superseded = superseded || e == nil && s.Phase == Removing
		failed = failed || e == nil && (s.Phase == Unwinding || s.Phase == Failed)
		switch {
		case superseded:
			done, err := RemoveAnswer(s, e)
			return done && err == nil, done, err
		case failed:
			return NameFree(s), NameFree(s), nil
		}
		done, err := CreateAnswer(s, e)
		return false, done, err
	}
}

// StartAnswer answers Start. A program that ended right after its start was started.
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

// StopAnswer answers Stop: success once no process is left and none can come to life,
// a failure as soon as a necessary step fails, although that step stays owed.
func StopAnswer(s State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case KillFailed:
		return true, e.Fault.Err()
	case RuntimeDeleteFailed:
		return true, e.Fault.Err()
	default: // Other events are no answer; the state may be.
	}
	// What is being undone may still be in the making: its outcome comes later.
	undoing := s.Phase == Unwinding || s.Phase == Removing
	beingMade := undoing && !s.Removal.RuntimeDeleted && !s.Run.ExitSeen
	return !s.stoppable() && !Alive(s) && !beingMade && !s.othersLeft() || s.final(), nil
}

// RemoveAnswer answers Remove: success once the container is gone.
func RemoveAnswer(s State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case RuntimeDeleteFailed:
		return true, e.Fault.Err()
	case RootfsReleaseFailed:
		return true, e.Fault.Err()
	default: // Other events are no answer.
	}
	return s.final() || s.Phase == Absent, nil
}

// ExecAnswer answers RunExec.
func ExecAnswer(x id.Exec) func(State, Event) (bool, error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ExecEnded:
			return e.Exec == x, nil
		case ExecFailed:
			if e.Exec == x {
				return true, e.Fault.Err()
			}
		default: // Other events are no answer.
		}
		return false, nil
	}
}

// UpdateAnswer returns the answer to an UpdateResources: success once its update is in
// force.
func UpdateAnswer() func(State, Event) (done bool, err error) {
	var update uint64
	return func(s State, e Event) (bool, error) {
		switch e := e.(type) {
		case nil: // The last update is this one, or the one that it joins.
			update = s.Resources.Asked
		case ResourcesUpdateFailed:
			if e.Update == update {
				return true, e.Fault.Err()
			}
		default: // Other events are no answer; the state may be.
		}
		return !s.Resources.pending(update), nil
	}
}

// ReopenAnswer answers ReopenLog: success once every requested reopening is done.
func ReopenAnswer(s State, e Event) (done bool, err error) {
	if f, failed := e.(LogReopenFailed); failed {
		return true, f.Fault.Err()
	}
	return s.Logs.ReopensDone >= s.Logs.ReopensAsked, nil
}
