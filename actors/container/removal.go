package container

import "slices"

// Removal is what was undone so far. Once the container is removed, or its creation
// fails, both steps are owed, whatever the creation had reached.
type Removal struct {
	// RuntimeDeleted: no process is left; runtime and monitor forgot the container.
	RuntimeDeleted bool `json:",omitempty"`
	// RootfsReleased: the root file system and the bundle are gone.
	RootfsReleased bool `json:",omitempty"`
}

func decideRemove(s State, c Remove) []Event {
	switch s.Phase {
	case Creating, Created, Starting, Running, Exited:
		return []Event{RemoveRequested(c)}
	case Unwinding, Removing:
		// A caller who repeats the request wants failed effects retried now.
		if len(s.Retries) > 0 {
			return []Event{RemoveRequested(c)}
		}
	case Absent, Failed, Removed:
	}
	return nil
}

func decideDeleted(s State, c DeleteRuntimeDone) []Event {
	if c.Err != nil {
		return []Event{RuntimeDeleteFailed{failure(s, "delete container", c.Err), s.Retries.Next(DeleteRuntime{}.Key(), c.At)}}
	}
	var events []Event
	if c.Exited && !s.Run.ExitSeen {
		events = append(events, s.exitOf(c.Exit))
	}
	return slices.Concat(events, []Event{RuntimeDeleted{}}, execsLost(s), updatesLost(s))
}

func decideReleased(s State, c ReleaseRootfsDone) []Event {
	if c.Err != nil {
		return []Event{RootfsReleaseFailed{failure(s, "release root file system", c.Err), s.Retries.Next(ReleaseRootfs{}.Key(), c.At)}}
	}
	return []Event{RootfsReleased{}}
}

// milestone returns the fact that the last events made true, or nil.
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

func (s *State) removeRequested() {
	if s.Phase != Unwinding {
		s.Phase = Removing
	}
	s.Retries.Now()
}

func (s *State) runtimeDeleted() {
	s.Removal.RuntimeDeleted = true
	delete(s.Retries, DeleteRuntime{}.Key())
}

func (s *State) rootfsReleased() {
	s.Removal.RootfsReleased = true
	delete(s.Retries, ReleaseRootfs{}.Key())
}

func owedRemoval(s State) []Effect {
	switch {
	case !s.Removal.RuntimeDeleted:
		return []Effect{DeleteRuntime{s.spec(), s.retry(DeleteRuntime{})}}
	case !s.Removal.RootfsReleased:
		return []Effect{ReleaseRootfs{s.spec(), s.retry(ReleaseRootfs{})}}
	}
	return nil
}
