package sandbox

// Evolve returns the state after a fact. It never fails: an unexpected fact is still
// a fact.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case SandboxRequested:
		s = requested(e)
	case SandboxPrepared:
		s.Prepared = true
	case SandboxPrepareFailed:
		s.createFailed(e.Fault)
	case SandboxReady:
		s.Phase = Ready
	case SandboxFailed:
		s.Phase = Failed

	case NetworkAttached:
		s.Network.Attached, s.Network.IPs = true, e.IPs
	case HostPortsMapped, NetworkRequestsUnserved: // for people
	case NetworkAttachFailed:
		s.createFailed(e.Fault)
	case NetworkDetached:
		s.Network.Detached = true
		delete(s.Retries, DetachNetwork{}.Key())
	case NetworkDetachFailed:
		s.undoingFailed(DetachNetwork{}, e.RetryAt)

	case HolderStarted:
		s.Holder.PID = e.PID
	case HolderStartFailed:
		s.createFailed(e.Fault)
	case HolderEnded:
		s.Holder.Exited = true
	case HolderStopped:
		s.Holder.Stopped = true
		delete(s.Retries, StopHolder{}.Key())
	case HolderStopFailed:
		s.undoingFailed(StopHolder{}, e.RetryAt)

	case ContainerAdded:
		s.containerAdded(e.Container)
	case ContainerForgotten:
		s.containerForgotten(e.Container)
	case ContainerStopped:
		s.containerStopped(e.Container)
	case ContainerStopFailed:
		s.Retries.Failed(StopContainer{Container: e.Container}.Key(), e.RetryAt)
	case ContainerRemoveFailed:
		s.Retries.Failed(RemoveContainer{Container: e.Container}.Key(), e.RetryAt)

	case ResourcesUpdated:
		s.UpdatedResources = e.Resources

	case StopRequested:
		s.Phase = Stopping
		s.Retries.Now()
	case RemoveRequested:
		s.removeRequested()
	case SandboxLost:
		s.lost(e.Fault)
	case SandboxStopped:
		s.stopped()
	case SandboxReleased:
		s.Released = true
		delete(s.Retries, ReleaseSandbox{}.Key())
	case SandboxReleaseFailed:
		s.undoingFailed(ReleaseSandbox{}, e.RetryAt)
	case SandboxRemoved:
		s.Phase = Removed
	}
	return s
}
