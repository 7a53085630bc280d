package sandbox

import (
	"cmp"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Member is a container of a pod that is not gone.
type Member struct {
	ID id.Container
	// Stopped: the sandbox has stopped it.
	Stopped bool `json:",omitempty"`
}

// Members are containers of a pod, by ascending id. A pod has few: a map would take ten times the
// memory.
type Members []Member

func (m Members) find(c id.Container) (at int, found bool) {
	return slices.BinarySearchFunc(m, c, func(x Member, c id.Container) int { return cmp.Compare(x.ID, c) })
}

// Has reports whether a container is a member.
func (m Members) Has(c id.Container) bool {
	_, found := m.find(c)
	return found
}

// With returns the members with another one, or one that has changed. It may change m.
func (m Members) With(x Member) Members {
	at, found := m.find(x.ID)
	if !found {
		return slices.Insert(m, at, x)
	}
	m[at] = x
	return m
}

func decideAdd(s State, c AddContainer) ([]Event, error) {
	if s.Phase != Ready {
		return nil, fault.New(fault.Precondition, "create container", string(s.ID), "the pod sandbox is %s, not ready", s.Phase)
	}
	if s.Containers.Has(c.Container) {
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
	if s.Containers.Has(c.Container) {
		return nil, nil
	}
	return []Event{ContainerAdded(c)}, nil
}

func decideForget(s State, c ForgetContainer) []Event {
	if !s.Containers.Has(c.Container) {
		return nil
	}
	return []Event{ContainerForgotten{c.Container}}
}

func decideContainerStopped(s State, c StopContainerDone) []Event {
	if !s.Containers.Has(c.Container) {
		return nil
	}
	if c.Err != nil {
		f := fault.From(c.Err, "stop container", string(c.Container))
		return []Event{ContainerStopFailed{c.Container, f, s.Retries.Next(StopContainer{Container: c.Container}.Key(), c.At)}}
	}
	return []Event{ContainerStopped{c.Container}}
}

func decideContainerRemoved(s State, c RemoveContainerDone) []Event {
	if !s.Containers.Has(c.Container) {
		return nil
	}
	if c.Err != nil {
		f := fault.From(c.Err, "remove container", string(c.Container))
		return []Event{ContainerRemoveFailed{c.Container, f, s.Retries.Next(RemoveContainer{Container: c.Container}.Key(), c.At)}}
	}
	return []Event{ContainerForgotten{c.Container}}
}

func (s State) containersStopped() bool {
	return !slices.ContainsFunc(s.Containers, func(m Member) bool { return !m.Stopped })
}

func (s *State) containerAdded(c id.Container) {
	s.Containers = s.Containers.With(Member{ID: c})
	if s.Phase == Stopped { // It was not, as it turns out.
		s.Phase = Stopping
	}
}

func (s *State) containerForgotten(c id.Container) {
	s.Containers = slices.DeleteFunc(s.Containers, func(m Member) bool { return m.ID == c })
	delete(s.Retries, StopContainer{Container: c}.Key())
	delete(s.Retries, RemoveContainer{Container: c}.Key())
}

func (s *State) containerStopped(c id.Container) {
	if s.Containers.Has(c) {
		s.Containers = s.Containers.With(Member{ID: c, Stopped: true})
	}
}

func owedContainers(s State) []Effect {
	var owed []Effect
	for _, c := range s.Containers {
		switch {
		case !c.Stopped:
			owed = append(owed, StopContainer{Sandbox: s.ID, Container: c.ID, due: s.retry(StopContainer{Container: c.ID})})
		case s.Phase == Removing:
			owed = append(owed, RemoveContainer{Container: c.ID, due: s.retry(RemoveContainer{Container: c.ID})})
		}
	}
	return owed
}
