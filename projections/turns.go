package projections

import (
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/eventlog"
)

// Turn is a step from one stage of life to another.
type Turn uint8

// A life has each of these once at most, in this order. Only what never ran is not
// Started; a life that is over has Created, Stopped and Deleted.
const (
	Created Turn = iota
	Started
	Stopped
	Deleted
)

// PodEvent is a turn in the life of a sandbox or container, with its pod as of that turn.
// Everything in it is shared and must not be modified.
type PodEvent struct {
	Turn Turn
	// At is the wall clock when the turn was recorded.
	At      time.Time
	Sandbox id.Sandbox
	// Container is empty if it is the sandbox's own turn.
	Container id.Container
	// Pod is the sandbox; nil if it is not known. Containers are those that have not
	// ended, in creation order.
	Pod        *Sandbox
	Containers []*Container

	place  Place
	number uint64
}

// bytes is how much memory an event keeps at most: its pod's configurations, and what is
// around them.
func (e *PodEvent) bytes() int {
	const each = 1024
	n := each
	if e.Pod != nil {
		n += each + len(e.Pod.State.Config)
	}
	for _, c := range e.Containers {
		config, resources := container.Config(c.State)
		n += each + len(config) + len(resources)
	}
	return n
}

// SandboxTurns are a sandbox's turns between two states; either may be nil.
func SandboxTurns(before, after *Sandbox) []Turn {
	return turns(before.Stage(), after.Stage(), before.Stage() != Active && after.Stage() == Active)
}

// ContainerTurns are a container's turns between two states; either may be nil.
func ContainerTurns(before, after *Container) []Turn {
	ran := func(c *Container) bool { return c != nil && !c.State.Run.StartedAt.IsZero() && c.Stage() != Made }
	return turns(before.Stage(), after.Stage(), ran(after) && !ran(before))
}

// turns returns the steps from one stage to another. A short life may take several at
// once: a program can end before its start was reported.
func turns(before, after Stage, started bool) (all []Turn) {
	if before == Hidden && after == Hidden {
		return nil
	}
	if before == Hidden {
		all = append(all, Created)
	}
	if started && before != Over {
		all = append(all, Started)
	}
	if before != Over && (after == Over || after == Hidden) {
		all = append(all, Stopped)
	}
	if after == Hidden {
		all = append(all, Deleted)
	}
	return all
}

// turning is what a change does to the lives of a pod.
type turning struct {
	turns     []Turn
	sandbox   id.Sandbox
	container id.Container
	// pod is the sandbox if the change removes it from the model.
	pod *Sandbox
}

// turningOf returns what a change is about to do. Only the feed may call it, before it
// applies the change: it reads the model without a lock.
func turningOf(l *Live, c *Change) (t turning) {
	switch what := c.What.(type) {
	case SandboxChanged:
		return turning{turns: SandboxTurns(what.Before, what.After), sandbox: what.After.State.ID, pod: what.After}
	case ContainerChanged:
		return turning{turns: ContainerTurns(what.Before, what.After), sandbox: what.After.State.Sandbox, container: what.After.State.ID}
	case HostChanged:
		closed, is := what.Event.(host.StreamClosed)
		if !is {
			return turning{}
		}
		kind, name, _ := strings.Cut(closed.Stream, "/")
		switch kind {
		case "sandbox":
			gone := l.sandboxes.byID[id.Sandbox(name)]
			return turning{turns: SandboxTurns(gone, nil), sandbox: id.Sandbox(name), pod: gone}
		case "container":
			if gone := l.containers.byID[id.Container(name)]; gone != nil {
				return turning{turns: ContainerTurns(gone, nil), sandbox: gone.State.Sandbox, container: gone.State.ID}
			}
		}
	case StreamPutAside:
		// A sandbox whose stream cannot be followed is not ready any more.
		kind, name, _ := strings.Cut(string(c.Record.Stream), "/")
		if was := l.sandboxes.byID[id.Sandbox(name)]; kind == "sandbox" && was != nil {
			now := *was
			now.Damage = what.Reason
			return turning{turns: SandboxTurns(was, &now), sandbox: was.State.ID}
		}
	case ImageChanged:
	}
	return turning{}
}

// events are the turns with their pod, after the change was applied. Only the feed may
// call it: it reads the model without a lock.
func (t turning) events(l *Live, record *eventlog.Record) []PodEvent {
	if len(t.turns) == 0 {
		return nil
	}
	pod := t.pod
	if now := l.sandboxes.byID[t.sandbox]; now != nil {
		pod = now
	}
	var containers []*Container
	if members := l.members[t.sandbox]; members != nil {
		containers = members.all()
	}
	all := make([]PodEvent, len(t.turns))
	for i, turn := range t.turns {
		all[i] = PodEvent{
			Turn: turn, At: record.Time, Sandbox: t.sandbox, Container: t.container, Pod: pod, Containers: containers,
			place: Place{Sequence: record.Sequence, Index: uint32(i)},
		}
	}
	return all
}
