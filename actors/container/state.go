package container

import (
	"maps"
	"slices"
	"time"

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
	// Creating: Create was accepted; the root file system and then the runtime's
	// container are owed.
	Creating Phase = "creating"
	// Unwinding: a step of the creation failed; what was begun is being undone.
	Unwinding Phase = "unwinding"
	// Failed: the creation failed and left nothing. The name is free.
	Failed Phase = "failed"
	// Created: the runtime holds the container's init before the user's program.
	Created Phase = "created"
	// Starting: the user's program is owed its start.
	Starting Phase = "starting"
	// Running: the user's program was started and its end has not been seen.
	Running Phase = "running"
	// Exited: the end was seen, or is known never to be seen (Exit.Unknown).
	Exited Phase = "exited"
	// Removing: whatever is left is owed undoing.
	Removing Phase = "removing"
	// Removed: the container is gone. The name is free.
	Removed Phase = "removed"
)

// Name is the identity that the kubelet gives a container in its sandbox.
type Name struct {
	Name    string
	Attempt uint32
}

// Exit is how a container ended.
type Exit struct {
	// Code is what the kernel reported: the exit code, or 128 and the signal.
	Code int
	// Signal is the signal that ended it, 0 if none did.
	Signal int `json:",omitempty"`
	// OOMKilled: the kernel ended a process of the container for want of memory.
	OOMKilled bool      `json:",omitempty"`
	At        time.Time // wall time of the exit
	// Unknown is why nobody can say how it ended; empty when the code is real.
	Unknown string `json:",omitempty"`
	// Note is what else is to be known of the end, such as that the container's
	// terminal had hung up.
	Note string `json:",omitempty"`
}

// Process tells the container's init from every other process, also after its
// pid was used again.
type Process struct {
	PID int
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot.
	StartTime uint64
	// Inode is the process's inode in pidfs, 0 where the kernel has none.
	Inode uint64
}

// Exec is a command that runs beside the container's own process.
type Exec struct {
	Command []string
	Timeout time.Duration
}

// State is everything that the container's decisions need, grouped by concept.
// Its exported fields are what a snapshot keeps.
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
	Execs   map[id.Exec]Exec `json:",omitempty"`
	Logs    Logs             `json:",omitzero"`
	Removal Removal          `json:",omitzero"`
	// Failure is why the creation or the start failed.
	Failure fault.Fault `json:",omitzero"`
	// Retries holds the effects that failed.
	Retries backoff.Schedule `json:",omitempty"`
}

// Request is what CreateContainer asked for. It never changes.
type Request struct {
	At      time.Time
	Handler string
	// Config and SandboxConfig are the CRI's ContainerConfig and the
	// PodSandboxConfig that came with it, protobuf-encoded. The machine hands
	// them on to the effects without reading them.
	Config, SandboxConfig []byte
	// ConfigDigest tells a repeated request from a different one.
	ConfigDigest string
	// Image is the id of the image that the root file system is made from.
	Image string
	// LogPath is the log file on the node; empty when output is dropped.
	LogPath string
	// StopSignal is the signal that Stop begins with, as the CRI or the image
	// names it ("SIGTERM" or a number).
	StopSignal string
}

// Creation is what was made of the container so far.
type Creation struct {
	// RootfsPrepared: the root file system is there.
	RootfsPrepared bool `json:",omitempty"`
	// Process is the container's init, zero before the runtime made it.
	Process Process `json:",omitzero"`
}

// Run is how the container's program was started and how it ended.
type Run struct {
	// RequestedAt is when StartContainer was accepted, StartedAt when the program
	// was started.
	RequestedAt, StartedAt time.Time
	// ExitSeen: the init ended. In Starting that alone doesn't end the phase:
	// the outcome of the start says whether it had succeeded.
	ExitSeen bool `json:",omitempty"`
	Exit     Exit
}

// Stopping is who wants the container to end, and what was done about it.
type Stopping struct {
	// Requests maps each request to stop that was not withdrawn to the time at
	// which its patience ends.
	Requests map[string]time.Time `json:",omitempty"`
	// Signalled: the stop signal was sent for the present Requests.
	Signalled bool `json:",omitempty"`
	// Killing: patience ended; the container is owed SIGKILL until it exits.
	Killing bool `json:",omitempty"`
	// KillSent: SIGKILL was delivered; only the exit is awaited.
	KillSent bool `json:",omitempty"`
}

// Logs is the state of the container's log file.
type Logs struct {
	// ReopensAsked and ReopensDone count rotations.
	ReopensAsked, ReopensDone uint64 `json:",omitempty"`
	// Lost is how many bytes of output the file has refused.
	Lost uint64 `json:",omitempty"`
}

// Removal is what was undone so far. From the request on, both are owed when the
// container has to go.
type Removal struct {
	// RuntimeDeleted: no process is left, and runtime and monitor forgot it.
	RuntimeDeleted bool `json:",omitempty"`
	// RootfsReleased: the root file system and the bundle are gone.
	RootfsReleased bool `json:",omitempty"`
}

// Ended reports whether the container is in a final phase and owes nothing more.
func Ended(s State) bool { return (s.final() || s.Phase == Absent) && len(Owed(s)) == 0 }

// NameFree reports whether another container may take this one's name.
func NameFree(s State) bool { return s.final() || s.Phase == Absent }

// Alive reports whether the container's init may be a live process.
func Alive(s State) bool {
	return s.Creation.Process.PID != 0 && !s.Run.ExitSeen && !s.Removal.RuntimeDeleted
}

func (s State) final() bool { return s.Phase == Failed || s.Phase == Removed }

// isOther reports whether a process is known to be another than the container's
// init.
func (s State) isOther(p Process) bool {
	return s.Creation.Process.PID != 0 && p.PID != 0 && (p.PID != s.Creation.Process.PID || p.StartTime != s.Creation.Process.StartTime)
}

// stoppable reports whether a stop can still change anything.
func (s State) stoppable() bool {
	return !s.Run.ExitSeen && (s.Phase == Creating || s.Phase == Created || s.Phase == Starting || s.Phase == Running)
}

// patience returns the earliest time at which a stop's grace period ends.
func (s State) patience() time.Time {
	var earliest time.Time
	for _, at := range s.Stopping.Requests {
		if earliest.IsZero() || at.Before(earliest) {
			earliest = at
		}
	}
	return earliest
}

func (s State) execIDs() []id.Exec { return slices.Sorted(maps.Keys(s.Execs)) }

// copied returns s with maps of its own, so that Evolve leaves its argument as
// it was.
func (s State) copied() State {
	s.Stopping.Requests = maps.Clone(s.Stopping.Requests)
	s.Execs = maps.Clone(s.Execs)
	s.Retries = maps.Clone(s.Retries)
	return s
}

func (s State) fail(f fault.Fault) State {
	if s.Phase == Creating {
		s.Phase, s.Failure = Unwinding, f
	}
	return s
}
