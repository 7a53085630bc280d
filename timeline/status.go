package timeline

import (
	"fmt"
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Status is a pod's state in a word or two.
func (p *Pod) Status() string {
	s := p.State
	switch {
	case s.Phase == sandbox.Absent:
		return "unknown"
	case s.Phase == sandbox.Unwinding:
		return "failing"
	case s.Phase == sandbox.Removed:
		return "gone"
	case s.Failure.Failed() && (s.Phase == sandbox.Stopping || s.Phase == sandbox.Stopped):
		return "lost"
	}
	return string(s.Phase)
}

// Gone reports whether nothing is left of the pod, and nothing is owed.
func (p *Pod) Gone() bool { return p.State.Phase != sandbox.Absent && sandbox.Ended(p.State) }

// Since is the time of the last change of Status, as far as the events tell.
func (p *Pod) Since() time.Time {
	switch p.State.Phase {
	case sandbox.Ready:
		return p.at("SandboxReady")
	case sandbox.Stopping:
		return p.endRequested
	}
	return p.last("SandboxRequested", "SandboxPrepareFailed", "NetworkAttachFailed", "HolderStartFailed", "SandboxFailed",
		"SandboxStopped", "RemoveRequested", "SandboxRemoved", "SandboxLost")
}

// Status is a container's state in a word or two, with how it ended.
func (c *Container) Status() string {
	s := c.State
	how := ""
	if s.Run.ExitSeen {
		how = " (" + exitShort(s.Run.Exit) + ")"
	}
	switch s.Phase {
	case container.Absent:
		return "unknown"
	case container.Unwinding:
		return "failing"
	case container.Exited:
		if s.Failure.Failed() {
			return "start failed"
		}
		return "exited" + how
	case container.Removed:
		return "gone" + how
	case container.Running:
		if !c.stop.requestedAt.IsZero() || !c.stop.killedAt.IsZero() {
			return "stopping"
		}
	}
	return string(s.Phase)
}

func exitShort(x container.Exit) string {
	switch {
	case x.Unknown != "":
		return "code unknown"
	case x.OOMKilled:
		return fmt.Sprintf("%d, OOM", x.Code)
	}
	return fmt.Sprint(x.Code)
}

// Gone reports whether nothing is left of the container, and nothing is owed.
func (c *Container) Gone() bool {
	return c.State.Phase != container.Absent && container.Ended(c.State)
}

// Since is the time of the last change of Status, as far as the events tell.
func (c *Container) Since() time.Time {
	switch c.State.Phase {
	case container.Running:
		return c.State.Run.StartedAt
	case container.Exited:
		if !c.State.Run.Exit.At.IsZero() {
			return c.State.Run.Exit.At
		}
	}
	return c.last("ContainerRequested", "RootfsPrepareFailed", "ContainerCreateFailed", "ContainerCreated", "StartRequested",
		"ContainerStartFailed", "ContainerStarted", "ContainerExited", "RemoveRequested", "ContainerRemoved", "ContainerFailed")
}

// last is the time of the newest of these events.
func (e *Entity) last(events ...string) time.Time {
	for _, m := range slices.Backward(e.Moments) {
		if slices.Contains(events, m.Event) {
			return m.At
		}
	}
	return time.Time{}
}

// Title is a pod as people name it: NAMESPACE/POD.
func (p *Pod) Title() string { return podKey(p) }

// Title is a container as people name it: NAMESPACE/POD/CONTAINER.
func (t *Timeline) Title(c *Container) string {
	if c.State.Name.Name == "" {
		return clean(string(c.State.ID))
	}
	return podKey(t.podOf(c)) + "/" + clean(c.State.Name.Name)
}

// Matches returns the pods and containers that a name means, with all containers of the pods;
// everything without a name. Oldest first.
func (t *Timeline) Matches(names []Name) (pods []*Pod, containers []*Container) {
	wanted := map[*Pod]bool{}
	for _, p := range t.Pods() {
		if len(names) == 0 || slices.ContainsFunc(names, func(n Name) bool { return n.Pod(p.State.ID, p.State.Name) }) {
			pods, wanted[p] = append(pods, p), true
		}
	}
	for _, c := range t.byAge() {
		p := t.podOf(c)
		if wanted[p] || len(names) == 0 || slices.ContainsFunc(names, func(n Name) bool { return n.Container(c.State.ID, c.State.Name, p.State.Name) }) {
			containers = append(containers, c)
		}
	}
	return pods, containers
}
