package container

import (
	"maps"
	"slices"

	"github.com/stele-runtime/stele/actors/backoff"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Phase is where a container is in its life.
//
//	          Create            rootfs, runtime         Start            started
//	(absent) ───────► Creating ────────────────► Created ─────► Starting ───────► Running
//	                     │                          │               │                │
//	        a step fails │                          │          exit, or failed start │ exit
//	                     ▼                          │               ▼                ▼
//	                 Unwinding                      └────────────► Exited ◄──────────┘
//	                     │ undone                    (killed)        │ Remove
//	                     ▼                                           ▼
//	                   Failed                                     Removing ──► Removed
//
// Remove leads to Removing from every phase but the final ones, Failed and
// Removed. Being stopped is not a phase: a container runs until it exits, and
// Stopping says who wants it to end and when patience runs out.
type Phase string

const (
	// Absent: the stream is empty.
	Absent Phase = ""
	// Creating: Create was accepted; the root file system, then the runtime's
	// container, are owed.
	Creating Phase = "creating"
	// Unwinding: a step of the creation failed; what was begun is being undone.
	Unwinding Phase = "unwinding"
	// Failed: the creation failed and left nothing. The name is free.
	Failed Phase = "failed"
	// Created: the container's init waits, before the user's program.
	Created Phase = "created"
	// Starting: the user's program is owed its start.
	Starting Phase = "starting"
	// Running: the user's program was started, and no end was seen.
	Running Phase = "running"
	// Exited: the end was seen, or never will be (Exit.Unknown).
	Exited Phase = "exited"
	// Removing: what is left is owed undoing.
	Removing Phase = "removing"
	// Removed: the container is gone. The name is free.
	Removed Phase = "removed"
)

// Name is the kubelet's identity for a container within its sandbox.
type Name struct {
	Name    string
	Attempt uint32
}

// State is everything that the container's decisions need, grouped by concept. A
// checkpoint keeps its exported fields.
type State struct {
	ID       id.Container
	Sandbox  id.Sandbox
	Name     Name
	Phase    Phase
	Request  Request
	Creation Creation `json:",omitzero"`
	Run      Run      `json:",omitzero"`
	Stopping Stopping `json:",omitzero"`
	// Execs are the commands that run beside the container, by id.
	Execs     map[id.Exec]Exec `json:",omitempty"`
	Resources Resources        `json:",omitzero"`
	Logs      Logs             `json:",omitzero"`
	Blocked   Blocked          `json:",omitzero"`
	Removal   Removal          `json:",omitzero"`
	// Failure is why the creation or the start failed.
	Failure fault.Fault `json:",omitzero"`
	// Retries holds the effects that failed and are owed again.
	Retries backoff.Schedule `json:",omitempty"`
}

// Ended reports whether the container is in a final phase and owes nothing more.
func Ended(s State) bool { return (s.final() || s.Phase == Absent) && len(Owed(s)) == 0 }

// NameFree reports whether another container may take this one's name: from the moment
// that the caller of a failed creation is told, whatever is still owed.
func NameFree(s State) bool { return Gone(s) || s.Phase == Unwinding && s.Creation.UndoFailed }

// Gone reports whether nothing is left of the container, so that its sandbox can forget it.
func Gone(s State) bool { return s.final() || s.Phase == Absent }

// Alive reports whether the container's init may be a live process.
func Alive(s State) bool {
	return s.Creation.Process.PID != 0 && !s.Run.ExitSeen && !s.Removal.RuntimeDeleted
}

func (s State) final() bool { return s.Phase == Failed || s.Phase == Removed }

// copied returns s with its own maps, so that Evolve does not change its argument.
func (s State) copied() State {
	s.Stopping.Requests = maps.Clone(s.Stopping.Requests)
	s.Execs = maps.Clone(s.Execs)
	s.Resources.Pending = slices.Clone(s.Resources.Pending)
	s.Retries = maps.Clone(s.Retries)
	return s
}
