package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// startErrorCode is the exit code of a container whose program could not be
// started: 128, as users of other runtimes know it. It is not a guess about a
// process, for there was none.
const startErrorCode = 128

// Evolve returns the state after a fact. It never fails: a fact that the state
// did not expect is still a fact.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case ContainerRequested:
		s = State{
			ID: e.ID, Sandbox: e.Sandbox, Name: e.Name, Phase: Creating,
			Request: Request{
				At: e.At, Handler: e.Handler, Config: e.Config, SandboxConfig: e.SandboxConfig, ConfigDigest: e.ConfigDigest,
				Image: e.Image, LogPath: e.LogPath, StopSignal: e.StopSignal,
			},
		}
	case RootfsPrepared:
		s.Creation.RootfsPrepared = true
	case RootfsPrepareFailed:
		s = s.fail(e.Fault)
	case ContainerCreated:
		s.Creation.Process = e.Process
		if s.Phase == Creating {
			s.Phase = Created
			if s.Run.ExitSeen {
				s.Phase = Exited
			}
		}
	case ContainerCreateFailed:
		s = s.fail(e.Fault)
	case ContainerFailed:
		s.Phase = Failed
	case StartRequested:
		s.Phase, s.Run.RequestedAt = Starting, e.At
	case ContainerStarted:
		s.Run.StartedAt = e.At
		if s.Phase == Starting {
			s.Phase = Running
			if s.Run.ExitSeen {
				s.Phase = Exited
			}
		}
	case ContainerStartFailed:
		s.Failure, s.Stopping.Killing = e.Fault, true
		if s.Phase == Starting {
			s.Phase = Exited
		}
		if !s.Run.ExitSeen {
			s.Run.Exit = Exit{Code: startErrorCode, At: e.At}
		}
	case StopRequested:
		if s.Stopping.Requests == nil {
			s.Stopping.Requests = map[string]time.Time{}
		}
		s.Stopping.Requests[e.Request] = e.Deadline
	case StopWithdrawn:
		delete(s.Stopping.Requests, e.Request)
		// A stop that comes later is a new one and signals anew.
		s.Stopping.Signalled = s.Stopping.Signalled && len(s.Stopping.Requests) > 0
	case StopSignalled, StopSignalFailed:
		s.Stopping.Signalled = len(s.Stopping.Requests) > 0
	case KillRequested:
		s.Stopping.Killing = true
		s.Retries.Now()
	case Killed:
		s.Stopping.KillSent = true
	case KillFailed:
		s.Retries.Failed(Kill{}.Key(), e.RetryAt)
	case ContainerExited:
		s.Run.ExitSeen = true
		// A start that failed has told already how the container ended.
		if s.Run.Exit.At.IsZero() {
			s.Run.Exit = e.Exit
		}
		if s.Phase == Created || s.Phase == Running {
			s.Phase = Exited
		}
	case ExecRequested:
		if s.Execs == nil {
			s.Execs = map[id.Exec]Exec{}
		}
		s.Execs[e.Exec] = Exec{Command: e.Command, Timeout: e.Timeout}
	case ExecEnded:
		delete(s.Execs, e.Exec)
	case ExecFailed:
		delete(s.Execs, e.Exec)
	case LogReopenRequested:
		s.Logs.ReopensAsked = e.Reopen
	case LogReopened:
		s.Logs.ReopensDone = max(s.Logs.ReopensDone, e.Reopen)
	case LogReopenFailed:
		s.Logs.ReopensDone = max(s.Logs.ReopensDone, e.Reopen)
	case OutputLost:
		s.Logs.Lost = e.Bytes
	case RemoveRequested:
		if s.Phase != Unwinding {
			s.Phase = Removing
		}
		s.Retries.Now()
	case RuntimeDeleted:
		s.Removal.RuntimeDeleted = true
		delete(s.Retries, DeleteRuntime{}.Key())
	case RuntimeDeleteFailed:
		s.Retries.Failed(DeleteRuntime{}.Key(), e.RetryAt)
	case RootfsReleased:
		s.Removal.RootfsReleased = true
		delete(s.Retries, ReleaseRootfs{}.Key())
	case RootfsReleaseFailed:
		s.Retries.Failed(ReleaseRootfs{}.Key(), e.RetryAt)
	case ContainerRemoved:
		s.Phase = Removed
	}
	return s
}
