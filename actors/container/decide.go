package container

import "github.com/stele-runtime/stele/actors/fault"

// Decide returns the facts that follow from a command. No events and no error mean
// that what the command asks for is already so. An error is a *fault.Fault and changes
// nothing.
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
	case PrepareRootfsDone:
		return decidePrepared(s, c), nil
	case CreateRuntimeDone:
		return decideCreated(s, c), nil

	case Start:
		return decideStart(s, c)
	case StartRuntimeDone:
		return decideStarted(s, c), nil
	case RecordExit:
		return decideExit(s, c), nil

	case Stop:
		return decideStop(s, c), nil
	case WithdrawStop:
		return decideWithdraw(s, c), nil
	case SignalStopDone:
		return decideSignalled(s, c), nil
	case AwaitGraceDone:
		return decideGraceOver(s, c), nil
	case KillDone:
		return decideKilled(s, c), nil

	case RunExec:
		return decideExec(s, c)
	case ExecuteDone:
		return decideExecuted(s, c), nil

	case UpdateResources:
		return decideUpdate(s, c)
	case UpdateRuntimeDone:
		return decideUpdated(s, c), nil

	case ReopenLog:
		return decideReopen(s)
	case RotateLogDone:
		return decideReopened(s, c), nil
	case ReportLoss:
		return decideLoss(s, c), nil
	case ReportBlocked:
		return decideBlocked(s, c), nil

	case Remove:
		return decideRemove(s, c), nil
	case DeleteRuntimeDone:
		return decideDeleted(s, c), nil
	case ReleaseRootfsDone:
		return decideReleased(s, c), nil

	case NodeRebooted:
		return decideRebooted(s, c), nil
	case CallersLost:
		return decideLost(s), nil
	}
	return nil, fault.New(fault.Internal, "decide", string(s.ID), "unknown command %T", c)
}

func failure(s State, op string, err error) fault.Fault {
	return fault.From(err, op, string(s.ID))
}
