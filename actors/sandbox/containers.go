package sandbox

import (
	"maps"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

func decideAdd(s State, c AddContainer) ([]Event, error) {
	if s.Phase != Ready {
		return nil, fault.New(fault.Precondition, "create container", string(s.ID), "the pod sandbox is %s, not ready", s.Phase)
	}
	if _, known := s.Containers[c.Container]; known {
		return nil, nil
	}
	return []Event{ContainerAdded{c.Container}}, nil
}

func decideAdopt(s State, c AdoptContainer) ([]Event, error) {
	switch s.Phase {
	case Ready, Stopping, Stopped, Removing:
	case Absent, Creating, Unwinding, Failed, Removed:
		return nil, fault.New(fault.Precondition, "adopt container", string(s.ID), "the pod sandbox cannot have containers: it is %q", s.Phase)
	}
	if _, known := s.Containers[c.Container]; known {
		return nil, nil
	}
	return []Event{ContainerAdded(c)}, nil
}

func decideForget(s State, c ForgetContainer) []Event {
	if _, known := s.Containers[c.Container]; !known {
		return nil
	}
	return []Event{ContainerForgotten{c.Container}}
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

func (s State) containersStopped() bool {
	for _, stopped := range s.Containers {
		if !stopped {
			return false
		}
	}
	return true
}

// ContainerIDs returns the ids of the pod's containers in order.
func (s State) ContainerIDs() []id.Container {
	return slices.Sorted(maps.Keys(s.Containers))
}

func (s *State) containerAdded(c id.Container) {
	if s.Containers == nil {
		s.Containers = map[id.Container]bool{}
	}
	s.Containers[c] = false
	if s.Phase == Stopped { // It was not, as it turns out.
		s.Phase = Stopping
	}
}

func (s *State) containerForgotten(c id.Container) {
	delete(s.Containers, c)
	delete(s.Retries, StopContainer{Container: c}.Key())
	delete(s.Retries, RemoveContainer{Container: c}.Key())
}

func (s *State) containerStopped(c id.Container) {
	if _, known := s.Containers[c]; known {
		s.Containers[c] = true
	}
}

func owedContainers(s State) []Effect {
	var owed []Effect
	for _, c := range s.ContainerIDs() {
		switch {
		case !s.Containers[c]:
			owed = append(owed, StopContainer{Sandbox: s.ID, Container: c, due: s.retry(StopContainer{Container: c})})
		case s.Phase == Removing:
			owed = append(owed, RemoveContainer{Container: c, due: s.retry(RemoveContainer{Container: c})})
		}
	}
	return owed
}
