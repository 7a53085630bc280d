package sandbox

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
	// Commands record what happened. Which milestones follow depends on the state
	// alone.
	for {
		e := milestone(s)
		if e == nil {
			return events, nil
		}
		events = append(events, e)
		s = Evolve(s, e)
	}
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Run:
		return decideRun(s, c)
	case PrepareSandboxDone:
		return decidePrepared(s, c), nil

	case AttachNetworkDone:
		return decideAttached(s, c), nil
	case DetachNetworkDone:
		return decideDetached(s, c), nil

	case StartHolderDone:
		return decideHolderStarted(s, c), nil
	case HolderExited:
		return decideHolderExited(s, c), nil
	case StopHolderDone:
		return decideHolderStopped(s, c), nil

	case AddContainer:
		return decideAdd(s, c)
	case AdoptContainer:
		return decideAdopt(s, c)
	case ForgetContainer:
		return decideForget(s, c), nil
	case StopContainerDone:
		return decideContainerStopped(s, c), nil
	case RemoveContainerDone:
		return decideContainerRemoved(s, c), nil

	case UpdateResources:
		return decideUpdate(s, c)
	case Stop:
		return decideStop(s), nil
	case Remove:
		return decideRemove(s), nil
	case NodeRebooted:
		return decideRebooted(s), nil
	case ReleaseSandboxDone:
		return decideReleased(s, c), nil
	}
	return nil, fault.New(fault.Internal, "decide", string(s.ID), "unknown command %T", c)
}

// milestone returns the fact that the last events made true, or nil.
func milestone(s State) Event {
	switch s.Phase {
	case Creating:
		if s.Prepared && len(Owed(s)) == 0 {
			return SandboxReady{}
		}
	case Unwinding:
		if s.Released && !s.holderOwed() {
			return SandboxFailed{}
		}
	case Stopping:
		if s.containersStopped() && !s.holderOwed() && s.networkTried() {
			return SandboxStopped{}
		}
	case Removing:
		if s.Released && !s.holderOwed() && len(s.Containers) == 0 {
			return SandboxRemoved{}
		}
	case Absent, Ready, Failed, Stopped, Removed:
	}
	return nil
}

func failure(s State, op string, err error) fault.Fault {
	return fault.From(err, op, string(s.ID))
}
