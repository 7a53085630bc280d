package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

// Creation is what was made of the container so far.
type Creation struct {
	// RootfsPrepared: the root file system is there.
	RootfsPrepared bool `json:",omitempty"`
	// Process is the container's init, zero before the runtime made it.
	Process Process `json:",omitzero"`
	// User is whom the init runs as.
	User User `json:",omitzero"`
	// SharedPIDs: the init's PID namespace is not its own. The kernel then leaves the
	// container's other processes alone when the init ends.
	SharedPIDs bool `json:",omitempty"`
	// Adjusted is what NRI plug-ins changed.
	Adjusted Adjusted `json:",omitzero"`
	// UndoFailed: the undoing of the failed creation failed at least once. It goes on, but
	// the caller has been told, and the name is free.
	UndoFailed bool `json:",omitempty"`
}

// Adjusted is what NRI plug-ins changed in the container's OCI spec when it was made.
type Adjusted struct {
	// Plugins are those that asked for changes, in their order.
	Plugins []string `json:",omitempty"`
	// JSON is all that they asked for, NRI's ContainerAdjustment.
	JSON string `json:",omitempty"`
}

// Adjustment is what NRI plug-ins changed, and what became of the limits.
type Adjustment struct {
	Plugins []string
	JSON    string
	// Resources are all limits in force, a protobuf-encoded LinuxContainerResources; empty
	// if they are the request's.
	Resources []byte
}

// User is whom a container's init runs as, as the request and the image's /etc/passwd
// and /etc/group say.
type User struct {
	UID, GID uint32
	// Groups are the supplementary ones.
	Groups []uint32 `json:",omitempty"`
}

// Process tells the container's init from every other process, even after its pid
// was reused.
type Process struct {
	PID int
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot.
	StartTime uint64
	// Inode is the process's inode in pidfs, 0 if the kernel has none.
	Inode uint64
}

// decideCreate joins a request under way and repeats the answer to a completed one.
// It refuses a different configuration under the same name, unless the container was
// created and never started: then its caller has lost the answer, for the kubelet starts
// what it knows to be created, and the container gives way. What failed before it was asked
// is no answer to it: it waits for the name.
func decideCreate(s State, c Create) ([]Event, error) {
	switch s.Phase {
	case Absent:
		return []Event{ContainerRequested(c)}, nil
	case Unwinding, Failed:
		return nil, nil
	case Creating, Created, Starting, Running, Exited, Removing, Removed:
	}
	if s.Phase == Created && s.Request.ConfigDigest != c.ConfigDigest {
		return []Event{ContainerSuperseded{}}, nil
	}
	if s.Request.ConfigDigest != c.ConfigDigest {
		return nil, fault.New(fault.Exists, "create container", string(s.ID),
			"metadata: name %q, attempt %d, belongs to container %s, which has a different configuration", c.Name.Name, c.Name.Attempt, s.ID)
	}
	if s.Phase == Removing || s.Phase == Removed {
		return nil, fault.New(fault.Exists, "create container", string(s.ID),
			"metadata: name %q, attempt %d, belongs to container %s, which is %s", c.Name.Name, c.Name.Attempt, s.ID, s.Phase)
	}
	return nil, nil
}

// decideLost undoes a creation that nobody waits for: a kubelet whose call broke asks for the
// container again, as the same attempt, unless it finds it created. Then it makes another
// attempt, and reports a restart.
func decideLost(s State) []Event {
	if s.Phase != Creating {
		return nil
	}
	return []Event{ContainerCreateFailed{*fault.New(fault.Interrupted, "create container", string(s.ID), "the daemon ended before it was made")}}
}

func decidePrepared(s State, c PrepareRootfsDone) []Event {
	if c.Err != nil {
		return []Event{RootfsPrepareFailed{failure(s, "prepare root file system", c.Err)}}
	}
	return []Event{RootfsPrepared{}}
}

func decideCreated(s State, c CreateRuntimeDone) []Event {
	if c.Err != nil {
		return []Event{ContainerCreateFailed{failure(s, "create container", c.Err)}}
	}
	return []Event{ContainerCreated{Process: c.Process, User: c.User, SharedPIDs: c.SharedPIDs, Adjustment: c.Adjustment}}
}

func requested(e ContainerRequested) State {
	return State{
		ID: e.ID, Sandbox: e.Sandbox, Name: e.Name, Phase: Creating,
		Request: Request{
			At: e.At, Handler: e.Handler, Config: e.Config, SandboxConfig: e.SandboxConfig, ConfigDigest: e.ConfigDigest,
			Image: e.Image, LogPath: e.LogPath, StopSignal: e.StopSignal,
		},
	}
}

func (s *State) created(e ContainerCreated) {
	s.Creation.Process, s.Creation.User = e.Process, e.User
	s.Creation.Adjusted = Adjusted{Plugins: e.Adjustment.Plugins, JSON: e.Adjustment.JSON}
	s.Resources.InForce = e.Adjustment.Resources
	// An init that ended this early has left no others.
	s.Creation.SharedPIDs = e.SharedPIDs && !s.Run.ExitSeen
	if s.Phase == Creating {
		s.Phase = Created
		if s.Run.ExitSeen {
			s.Phase = Exited
		}
	}
}

func (s *State) createFailed(f fault.Fault) {
	if s.Phase == Creating {
		s.Phase, s.Failure = Unwinding, f
	}
}

// undoingFailed makes an effect owed again, and gives the name of a failed creation back.
func (s *State) undoingFailed(f Effect, retryAt time.Time) {
	s.Retries.Failed(f.Key(), retryAt)
	s.Creation.UndoFailed = s.Creation.UndoFailed || s.Phase == Unwinding
}

func owedCreation(s State) []Effect {
	if !s.Creation.RootfsPrepared {
		return []Effect{PrepareRootfs{Spec: s.spec()}}
	}
	return []Effect{CreateRuntime{Spec: s.spec()}}
}
