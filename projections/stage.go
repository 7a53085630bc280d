package projections

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Stage is how far a sandbox or container is in its life, as the kubelet sees it.
type Stage uint8

const (
	// Hidden: it is not made yet, was never made, or is gone.
	Hidden Stage = iota
	// Made: the container is created, and its program was not started.
	Made
	// Active: the sandbox is ready, or the container's program runs.
	Active
	// Over: the sandbox is not ready any more, or the container has ended.
	Over
	// Unclear: nobody can tell.
	Unclear
)

// Stage is the sandbox's; Hidden for nil.
func (s *Sandbox) Stage() Stage {
	if s == nil {
		return Hidden
	}
	switch s.State.Phase {
	case sandbox.Ready:
		if s.Damage == "" {
			return Active
		}
		return Over
	case sandbox.Stopping, sandbox.Stopped, sandbox.Removing:
		return Over
	case sandbox.Absent, sandbox.Creating, sandbox.Unwinding, sandbox.Failed, sandbox.Removed:
	}
	return Hidden
}

// Stage is the container's; Hidden for nil.
func (c *Container) Stage() Stage {
	if c == nil {
		return Hidden
	}
	stage := Hidden
	switch c.State.Phase {
	case container.Created, container.Starting:
		stage = Made
	case container.Running:
		stage = Active
	case container.Exited:
		stage = Over
	case container.Removing:
		switch {
		case c.State.Creation.Process.PID == 0: // its creation was never reported
		case container.Alive(c.State) && c.State.Run.Exit.At.IsZero():
			stage = Unclear
		default: // A failed start has recorded the end of a program that never ran.
			stage = Over
		}
	case container.Absent, container.Creating, container.Unwinding, container.Failed, container.Removed:
	}
	if stage != Hidden && c.Damage != "" {
		return Unclear
	}
	return stage
}
