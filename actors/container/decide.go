package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

// Decide says which facts follow from a command. No events and no error means
// that the command asks for what is already so. An error is a *fault.Fault and
// changes nothing.
func Decide(s State, c Command) ([]Event, error) {
	events, err := decide(s, c)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		s = Evolve(s, e)
	}
	if e := milestone(s); e != nil {
		events = append(events, e)
	}
	return events, nil
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Create:
		return decideCreate(s, c)
	case Start:
		return decideStart(s, c)
	case Stop:
		return decideStop(s, c), nil
	case WithdrawStop:
		return decideWithdraw(s, c), nil
	case Remove:
		switch s.Phase {
		case Creating, Created, Starting, Running, Exited:
			return []Event{RemoveRequested{}}, nil
		case Unwinding, Removing:
			// Who asks again wants it tried again.
			if len(s.Retries) > 0 {
				return []Event{RemoveRequested{}}, nil
			}
		case Absent, Failed, Removed:
		}
		return nil, nil
	case RunExec:
		return decideExec(s, c)
	case ReopenLog:
		return decideReopen(s)
	case RecordExit:
		if s.Run.ExitSeen || s.final() || s.Phase == Absent || s.isOther(c.Process) {
			return nil, nil
		}
		return []Event{ContainerExited{c.Exit}}, nil
	case ReportLoss:
		// The monitor counts up, and says it again when it is asked again.
		if c.Bytes <= s.Logs.Lost || s.final() || s.Phase == Absent {
			return nil, nil
		}
		return []Event{OutputLost(c)}, nil
	case NodeRebooted:
		return decideRebooted(s, c), nil
	default:
		return decideOutcome(s, c)
	}
}

// decideOutcome records what became of an effect.
func decideOutcome(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case PrepareRootfsDone:
		if c.Err != nil {
			return []Event{RootfsPrepareFailed{failure(s, "prepare root file system", c.Err)}}, nil
		}
		return []Event{RootfsPrepared{}}, nil
	case CreateRuntimeDone:
		if c.Err != nil {
			return []Event{ContainerCreateFailed{failure(s, "create container", c.Err)}}, nil
		}
		return []Event{ContainerCreated{c.Process}}, nil
	case StartRuntimeDone:
		if c.Err != nil {
			return []Event{ContainerStartFailed{failure(s, "start container", c.Err), c.At}}, nil
		}
		return []Event{ContainerStarted{c.At}}, nil
	case SignalStopDone:
		if c.Err != nil {
			return []Event{StopSignalFailed{failure(s, "signal container", c.Err)}}, nil
		}
		return []Event{StopSignalled{}}, nil
	case AwaitGraceDone:
		// Whoever was that impatient may have withdrawn meanwhile.
		withdrawn := len(s.Stopping.Requests) == 0 || s.patience().After(c.Deadline)
		if withdrawn || s.Stopping.Killing || !s.stoppable() {
			return nil, nil
		}
		return []Event{KillRequested{}}, nil
	case KillDone:
		if c.Err != nil {
			return []Event{KillFailed{failure(s, "kill container", c.Err), s.Retries.Next(Kill{}.Key(), c.At)}}, nil
		}
		return []Event{Killed{}}, nil
	case ExecuteDone:
		if _, underWay := s.Execs[c.Exec]; !underWay {
			return nil, nil
		}
		if c.Err != nil {
			return []Event{ExecFailed{c.Exec, failure(s, "exec in container", c.Err)}}, nil
		}
		return []Event{ExecEnded{Exec: c.Exec, Code: c.Code, TimedOut: c.TimedOut}}, nil
	case RotateLogDone:
		if c.Err != nil {
			return []Event{LogReopenFailed{c.Reopen, failure(s, "reopen log of container", c.Err)}}, nil
		}
		return []Event{LogReopened{c.Reopen}}, nil
	case DeleteRuntimeDone:
		if c.Err != nil {
			return []Event{RuntimeDeleteFailed{failure(s, "delete container", c.Err), s.Retries.Next(DeleteRuntime{}.Key(), c.At)}}, nil
		}
		var events []Event
		if c.Exited && !s.Run.ExitSeen {
			events = append(events, ContainerExited{c.Exit})
		}
		return append(append(events, RuntimeDeleted{}), s.execsLost()...), nil
	case ReleaseRootfsDone:
		if c.Err != nil {
			return []Event{RootfsReleaseFailed{failure(s, "release root file system", c.Err), s.Retries.Next(ReleaseRootfs{}.Key(), c.At)}}, nil
		}
		return []Event{RootfsReleased{}}, nil
	default:
		return nil, fault.New(fault.Internal, "decide", string(s.ID), "unknown command %T", c)
	}
}

// decideCreate joins a request that is under way and repeats the answer of one
// that was completed; a different configuration under the same name is refused.
func decideCreate(s State, c Create) ([]Event, error) {
	if s.Phase == Absent {
		return []Event{ContainerRequested(c)}, nil
	}
	if s.Request.ConfigDigest != c.ConfigDigest {
		return nil, fault.New(fault.Exists, "create container", string(s.ID),
			"metadata: name %q, attempt %d, belongs to container %s, which has another configuration", c.Name.Name, c.Name.Attempt, s.ID)
	}
	if s.Phase == Unwinding || s.Phase == Removing || s.final() {
		return nil, fault.New(fault.Exists, "create container", string(s.ID),
			"metadata: name %q, attempt %d, belongs to container %s, which is %s", c.Name.Name, c.Name.Attempt, s.ID, s.Phase)
	}
	return nil, nil
}

// decideStart treats a second start as the first one asked again, because the
// kubelet repeats a call whose answer it did not get.
func decideStart(s State, c Start) ([]Event, error) {
	switch s.Phase {
	case Created:
		if len(s.Stopping.Requests) > 0 || s.Stopping.Killing {
			return nil, fault.New(fault.Precondition, "start container", string(s.ID), "it is being stopped")
		}
		return []Event{StartRequested(c)}, nil
	case Starting, Running:
		return nil, nil
	case Absent, Creating, Unwinding, Failed, Exited, Removing, Removed:
	}
	return nil, fault.New(fault.Precondition, "start container", string(s.ID), "it is %s, not created", s.Phase)
}

func decideStop(s State, c Stop) []Event {
	if !s.stoppable() {
		return nil
	}
	if s.Stopping.Killing {
		// Who asks again wants it tried again.
		if len(s.Retries) > 0 {
			return []Event{KillRequested{}}
		}
		return nil
	}
	if c.Grace <= 0 {
		return []Event{KillRequested{}}
	}
	// A container that was never started has nothing to end in good order. One
	// that is being created is killed as soon as it is there: its pod may be
	// ending, and nothing must come to life in it.
	if s.Phase == Creating || s.Phase == Created {
		return []Event{StopRequested{c.Request, c.At}, KillRequested{}}
	}
	return []Event{StopRequested{c.Request, c.At.Add(c.Grace)}}
}

func decideWithdraw(s State, c WithdrawStop) []Event {
	if _, asked := s.Stopping.Requests[c.Request]; !asked || s.Stopping.Killing || !s.stoppable() {
		return nil
	}
	return []Event{StopWithdrawn(c)}
}

// execsLost says of every command that is still under way that it ended with the
// container, of which nothing is left.
func (s State) execsLost() []Event {
	var events []Event
	for _, x := range s.execIDs() {
		events = append(events, ExecFailed{x, *fault.New(fault.Interrupted, "exec in container", string(s.ID), "the container was removed")})
	}
	return events
}

func decideExec(s State, c RunExec) ([]Event, error) {
	if s.Phase != Running || s.Run.ExitSeen {
		return nil, fault.New(fault.Precondition, "exec in container", string(s.ID), "it is %s, not running", s.Phase)
	}
	return []Event{ExecRequested(c)}, nil
}

func decideReopen(s State) ([]Event, error) {
	if s.Phase != Running {
		return nil, fault.New(fault.Precondition, "reopen log of container", string(s.ID), "it is %s, not running", s.Phase)
	}
	return []Event{LogReopenRequested{s.Logs.ReopensAsked + 1}}, nil
}

func decideRebooted(s State, c NodeRebooted) []Event {
	const reason = "the node was rebooted"
	switch s.Phase {
	case Creating:
		return []Event{ContainerCreateFailed{*fault.New(fault.Interrupted, "create container", string(s.ID), reason)}}
	case Starting:
		if s.Run.ExitSeen {
			return []Event{ContainerStarted{At: s.Run.Exit.At}}
		}
		// The exit comes first, so that it counts: the program may have run.
		return []Event{
			ContainerExited{Unknown(reason, c.At)},
			ContainerStartFailed{*fault.New(fault.Interrupted, "start container", string(s.ID), reason), c.At},
		}
	case Created, Running:
		return []Event{ContainerExited{Unknown(reason, c.At)}}
	case Exited:
		// The init that a failed start left waiting.
		if !s.Run.ExitSeen {
			return []Event{ContainerExited{Unknown(reason, c.At)}}
		}
	case Absent, Unwinding, Failed, Removing, Removed:
	}
	return nil
}

// unknownCode stands in the CRI's exit_code when nobody can know the real one.
// No process can have it, unlike 0 or 255.
const unknownCode = -1

// Unknown is the exit of a container whose real one nobody saw.
func Unknown(reason string, at time.Time) Exit {
	return Exit{Code: unknownCode, At: at, Unknown: reason}
}

// milestone returns the fact that has become true by itself, or nil.
func milestone(s State) Event {
	undone := s.Removal.RuntimeDeleted && s.Removal.RootfsReleased && len(s.Execs) == 0
	switch {
	case s.Phase == Unwinding && undone:
		return ContainerFailed{}
	case s.Phase == Removing && undone:
		return ContainerRemoved{}
	}
	return nil
}

func failure(s State, op string, err error) fault.Fault {
	return fault.From(err, op, string(s.ID))
}
