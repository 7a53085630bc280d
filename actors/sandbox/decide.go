package sandbox

import "github.com/stele-runtime/stele/actors/fault"

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
	// The commands above record what happened; the milestones that follow from
	// it are the same whatever came last.
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
	case AddContainer:
		return decideAdd(s, c)
	case ForgetContainer:
		return decideForget(s, c), nil
	case Stop:
		return decideStop(s), nil
	case Remove:
		return decideRemove(s), nil
	case HolderExited:
		return decideHolderExited(s, c), nil
	case NodeRebooted:
		return decideRebooted(s), nil

	case PrepareSandboxDone:
		return decidePrepared(s, c), nil
	case AttachNetworkDone:
		return decideAttached(s, c), nil
	case StartHolderDone:
		return decideHolderStarted(s, c), nil
	case StopContainerDone:
		return decideContainerStopped(s, c), nil
	case RemoveContainerDone:
		return decideContainerRemoved(s, c), nil
	case StopHolderDone:
		return decideHolderStopped(s, c), nil
	case DetachNetworkDone:
		return decideDetached(s, c), nil
	case ReleaseSandboxDone:
		return decideReleased(s, c), nil
	}
	return nil, fault.New(fault.Internal, "decide", string(s.ID), "unknown command %T", c)
}

// decideRun joins a request that is under way and repeats the answer of one
// that was completed; a different configuration under the same name is refused.
// The kubelet times out and asks again.
func decideRun(s State, c Run) ([]Event, error) {
	if s.Phase == Absent {
		return []Event{SandboxRequested(c)}, nil
	}
	if s.ConfigDigest != c.ConfigDigest || s.Handler != c.Handler {
		return nil, fault.New(fault.Exists, "run pod sandbox", string(s.ID),
			"metadata: name %q in namespace %q, attempt %d, belongs to sandbox %s, which has another configuration",
			c.Name.Name, c.Name.Namespace, c.Name.Attempt, s.ID)
	}
	if s.Phase != Creating && s.Phase != Ready {
		return nil, fault.New(fault.Exists, "run pod sandbox", string(s.ID),
			"metadata: name %q in namespace %q, attempt %d, belongs to sandbox %s, which is %s",
			c.Name.Name, c.Name.Namespace, c.Name.Attempt, s.ID, s.Phase)
	}
	return nil, nil
}

func decideAdd(s State, c AddContainer) ([]Event, error) {
	if s.Phase != Ready {
		return nil, fault.New(fault.Precondition, "create container", string(s.ID), "the pod sandbox is %s, not ready", s.Phase)
	}
	if _, known := s.Containers[c.Container]; known {
		return nil, nil
	}
	return []Event{ContainerAdded{c.Container}}, nil
}

func decideForget(s State, c ForgetContainer) []Event {
	if _, known := s.Containers[c.Container]; !known {
		return nil
	}
	return []Event{ContainerForgotten{c.Container}}
}

func decideStop(s State) []Event {
	// Who asks again wants it tried again.
	again := s.Phase == Stopping && len(s.Retries) > 0
	if s.Phase == Creating || s.Phase == Ready || again {
		return []Event{StopRequested{}}
	}
	return nil
}

func decideRemove(s State) []Event {
	switch s.Phase {
	case Creating, Ready:
		return []Event{StopRequested{}, RemoveRequested{}}
	case Stopping, Stopped:
		if !s.RemoveRequested || len(s.Retries) > 0 {
			return []Event{RemoveRequested{}}
		}
	case Unwinding, Removing:
		// Who asks again wants it tried again.
		if len(s.Retries) > 0 {
			return []Event{RemoveRequested{}}
		}
	case Absent, Failed, Removed:
	}
	return nil
}

func decideHolderExited(s State, c HolderExited) []Event {
	if !s.Holder.Begun || s.Holder.Exited || s.final() {
		return nil
	}
	events := []Event{HolderEnded(c)}
	if s.Phase == Creating || s.Phase == Ready {
		f := fault.New(fault.Unavailable, "hold the pod's PID namespace", string(s.ID), "the pod's init ended with code %d", c.Code)
		events = append(events, SandboxLost{*f})
	}
	return events
}

func decideRebooted(s State) []Event {
	if s.Phase == Creating || s.Phase == Ready {
		return []Event{SandboxLost{*fault.New(fault.Interrupted, "run pod sandbox", string(s.ID), "the node was rebooted")}}
	}
	return nil
}

// milestone returns the fact that has become true by itself, or nil.
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
