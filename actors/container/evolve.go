package container

// Evolve returns the state after a fact. It never fails: an unexpected fact is still
// a fact.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case ContainerRequested:
		s = requested(e)
	case RootfsPrepared:
		s.Creation.RootfsPrepared = true
	case RootfsPrepareFailed:
		s.createFailed(e.Fault)
	case ContainerCreated:
		s.created(e)
	case ContainerCreateFailed:
		s.createFailed(e.Fault)
	case ContainerFailed:
		s.Phase = Failed

	case StartRequested:
		s.Phase, s.Run.RequestedAt = Starting, e.At
	case ContainerStarted:
		s.started(e)
	case ContainerStartFailed:
		s.startFailed(e)
	case ContainerExited:
		s.exited(e)

	case StopRequested:
		s.Stopping.requested(e)
	case StopWithdrawn:
		s.Stopping.withdrawn(e)
	case StopSignalled, StopSignalFailed:
		s.Stopping.Signalled = len(s.Stopping.Requests) > 0
	case KillRequested:
		s.Stopping.Killing = true
		s.Retries.Now()
	case Killed:
		s.Stopping.KillSent = true
	case KillFailed:
		s.Retries.Failed(Kill{}.Key(), e.RetryAt)

	case ExecRequested:
		s.execRequested(e)
	case ExecEnded:
		delete(s.Execs, e.Exec)
	case ExecFailed:
		delete(s.Execs, e.Exec)

	case ResourcesUpdateRequested:
		s.Resources.requested(e)
	case ResourcesUpdated:
		s.Resources.ended(e.Update)
		s.Resources.InForce = e.Resources
	case ResourcesUpdateFailed:
		s.Resources.ended(e.Update)

	case LogReopenRequested:
		s.Logs.ReopensAsked = e.Reopen
	case LogReopened:
		s.Logs.reopened(e.Reopen)
	case LogReopenFailed:
		s.Logs.reopened(e.Reopen)
	case OutputLost:
		s.Logs.Lost = e.Bytes
	case SyscallsBlocked:
		s.Blocked = Blocked{Calls: e.Calls, Stop: s.Blocked.Stop || e.Stop}

	case RemoveRequested, ContainerSuperseded:
		s.removeRequested()
	case RuntimeDeleted:
		s.runtimeDeleted()
	case RuntimeDeleteFailed:
		s.undoingFailed(DeleteRuntime{}, e.RetryAt)
	case RootfsReleased:
		s.rootfsReleased()
	case RootfsReleaseFailed:
		s.undoingFailed(ReleaseRootfs{}, e.RetryAt)
	case ContainerRemoved:
		s.Phase = Removed
	}
	return s
}
