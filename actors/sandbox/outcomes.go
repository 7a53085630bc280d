package sandbox

import "github.com/stele-runtime/stele/actors/fault"

// The functions of this file record what became of an effect.

func decidePrepared(s State, c PrepareSandboxDone) []Event {
	if c.Err != nil {
		return []Event{SandboxPrepareFailed{failure(s, "prepare sandbox", c.Err)}}
	}
	return []Event{SandboxPrepared{}}
}

func decideAttached(s State, c AttachNetworkDone) []Event {
	if c.Err != nil {
		return []Event{NetworkAttachFailed{failure(s, "attach network", c.Err)}}
	}
	return []Event{NetworkAttached{IPs: c.IPs, Result: c.Result}}
}

func decideHolderStarted(s State, c StartHolderDone) []Event {
	if c.Err != nil {
		return []Event{HolderStartFailed{failure(s, "start the pod's init", c.Err)}}
	}
	return []Event{HolderStarted{c.PID}}
}

func decideContainerStopped(s State, c StopContainerDone) []Event {
	if _, known := s.Containers[c.Container]; !known {
		return nil
	}
	if c.Err != nil {
		f := fault.From(c.Err, "stop container", string(c.Container))
		return []Event{ContainerStopFailed{c.Container, f, s.Retries.Next(StopContainer{Container: c.Container}.Key(), c.At)}}
	}
	return []Event{ContainerStopped{c.Container}}
}

func decideContainerRemoved(s State, c RemoveContainerDone) []Event {
	if _, known := s.Containers[c.Container]; !known {
		return nil
	}
	if c.Err != nil {
		f := fault.From(c.Err, "remove container", string(c.Container))
		return []Event{ContainerRemoveFailed{c.Container, f, s.Retries.Next(RemoveContainer{Container: c.Container}.Key(), c.At)}}
	}
	return []Event{ContainerForgotten{c.Container}}
}

func decideHolderStopped(s State, c StopHolderDone) []Event {
	if c.Err != nil {
		return []Event{HolderStopFailed{failure(s, "stop the pod's init", c.Err), s.Retries.Next(StopHolder{}.Key(), c.At)}}
	}
	return []Event{HolderStopped{}}
}

func decideDetached(s State, c DetachNetworkDone) []Event {
	if c.Err != nil {
		return []Event{NetworkDetachFailed{failure(s, "detach network", c.Err), s.Retries.Next(DetachNetwork{}.Key(), c.At)}}
	}
	return []Event{NetworkDetached{}}
}

func decideReleased(s State, c ReleaseSandboxDone) []Event {
	if c.Err != nil {
		return []Event{SandboxReleaseFailed{failure(s, "release sandbox", c.Err), s.Retries.Next(ReleaseSandbox{}.Key(), c.At)}}
	}
	return []Event{SandboxReleased{}}
}

func failure(s State, op string, err error) fault.Fault {
	return fault.From(err, op, string(s.ID))
}
