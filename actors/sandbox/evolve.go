package sandbox

import "github.com/stele-runtime/stele/actors/id"

// Evolve returns the state after a fact. It never fails: a fact that the state
// did not expect is still a fact.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case SandboxRequested:
		s = State{
			ID: e.ID, Phase: Creating, Name: e.Name, Handler: e.Handler,
			Config: e.Config, ConfigDigest: e.ConfigDigest, CreatedAt: e.At,
			HostNetwork: e.HostNetwork, SharedPID: e.SharedPID,
			Network: Network{Begun: !e.HostNetwork}, Holder: Holder{Begun: e.SharedPID},
		}
	case SandboxPrepared:
		s.Prepared = true
	case SandboxPrepareFailed:
		s = s.fail(e.Fault)
	case NetworkAttached:
		s.Network.Attached, s.Network.IPs = true, e.IPs
	case NetworkAttachFailed:
		s = s.fail(e.Fault)
	case HolderStarted:
		s.Holder.PID = e.PID
	case HolderStartFailed:
		s = s.fail(e.Fault)
	case SandboxReady:
		s.Phase = Ready
	case SandboxFailed:
		s.Phase = Failed
	case ContainerAdded:
		if s.Containers == nil {
			s.Containers = map[id.Container]bool{}
		}
		s.Containers[e.Container] = false
	case ContainerForgotten:
		delete(s.Containers, e.Container)
		delete(s.Retries, StopContainer{Container: e.Container}.Key())
		delete(s.Retries, RemoveContainer{Container: e.Container}.Key())
	case StopRequested:
		s.Phase = Stopping
		s.Retries.Now()
	case RemoveRequested:
		s.RemoveRequested = true
		s.Retries.Now()
		if s.Phase == Stopped {
			s.Phase = Removing
		}
	case SandboxLost:
		if s.Phase == Creating {
			s = s.fail(e.Fault)
		} else {
			s.Phase, s.Failure = Stopping, e.Fault
		}
	case HolderEnded:
		s.Holder.Exited = true
	case ContainerStopped:
		if _, known := s.Containers[e.Container]; known {
			s.Containers[e.Container] = true
		}
	case ContainerStopFailed:
		s.Retries.Failed(StopContainer{Container: e.Container}.Key(), e.RetryAt)
	case ContainerRemoveFailed:
		s.Retries.Failed(RemoveContainer{Container: e.Container}.Key(), e.RetryAt)
	case HolderStopped:
		s.Holder.Stopped = true
		delete(s.Retries, StopHolder{}.Key())
	case HolderStopFailed:
		s.Retries.Failed(StopHolder{}.Key(), e.RetryAt)
	case NetworkDetached:
		s.Network.Detached = true
		delete(s.Retries, DetachNetwork{}.Key())
	case NetworkDetachFailed:
		s.Retries.Failed(DetachNetwork{}.Key(), e.RetryAt)
	case SandboxStopped:
		s.Phase = Stopped
		if s.RemoveRequested {
			s.Phase = Removing
		}
	case SandboxReleased:
		s.Released = true
		delete(s.Retries, ReleaseSandbox{}.Key())
	case SandboxReleaseFailed:
		s.Retries.Failed(ReleaseSandbox{}.Key(), e.RetryAt)
	case SandboxRemoved:
		s.Phase = Removed
	}
	return s
}
