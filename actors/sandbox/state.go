package sandbox

import (
	"maps"
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/backoff"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Phase is where a sandbox is in its life.
//
//	           Run              all steps done            Stop, or lost
//	(absent) ──────► Creating ────────────────► Ready ──────────────────► Stopping
//	                  │    │                                                  │
//	     a step fails │    └───────────────── Stop or Remove ───────────────► │ undone
//	                  ▼                                                       ▼
//	              Unwinding                                Removing ◄───── Stopped
//	                  │ undone                                 │    Remove
//	                  ▼                                        ▼ released
//	               Failed                                   Removed
//
// Failed and Removed are final: nothing leads out of them. A network that could not
// be detached stays owed even then.
type Phase string

const (
	// Absent: the stream is empty.
	Absent Phase = ""
	// Creating: Run was accepted; steps are owed until all of them are done.
	Creating Phase = "creating"
	// Ready: namespaces are pinned, the network is attached, and the holder (if the
	// pod shares a PID namespace) runs. Containers may be added.
	Ready Phase = "ready"
	// Unwinding: a step of the creation failed; what was begun is being undone.
	Unwinding Phase = "unwinding"
	// Failed: the creation failed and left nothing. The name is free.
	Failed Phase = "failed"
	// Stopping: containers are being stopped, then the holder and the network.
	Stopping Phase = "stopping"
	// Stopped: no process of the pod runs. The network is detached, or detaching it
	// has failed at least once and stays owed.
	Stopped Phase = "stopped"
	// Removing: containers, then the sandbox's own resources, are being removed.
	Removing Phase = "removing"
	// Removed: the sandbox is gone. The name is free.
	Removed Phase = "removed"
)

// Name is the kubelet's identity for a sandbox. No two live sandboxes share one; the
// attempt tells a pod's successive sandboxes apart.
type Name struct {
	Name, Namespace, UID string
	Attempt              uint32
}

// State is everything that the sandbox's decisions need. A checkpoint keeps its
// exported fields.
type State struct {
	ID    id.Sandbox
	Phase Phase
	Name  Name
	// Handler is the runtime handler that the pod's containers run with.
	Handler string
	// Config is the requested PodSandboxConfig of the CRI, protobuf-encoded. The
	// machine passes it to the effects without reading it.
	Config []byte
	// UpdatedResources replace a part of Config unless they are empty; see the function
	// Config.
	UpdatedResources []byte `json:",omitempty"`
	// ConfigDigest tells a repeated request from a different one.
	ConfigDigest string
	CreatedAt    time.Time
	// HostNetwork: the pod uses the node's network, so nothing is attached.
	HostNetwork bool `json:",omitempty"`
	// SharedPID: the pod's containers share a PID namespace, which the holder holds.
	SharedPID bool `json:",omitempty"`

	// Prepared: directories, files and namespaces exist.
	Prepared bool `json:",omitempty"`
	// Released: nothing of them is left.
	Released bool `json:",omitempty"`
	Network  Network
	Holder   Holder
	// Containers are those of the pod that are not gone.
	Containers Members `json:",omitempty"`
	// RemoveRequested: once stopped, the sandbox is to be removed.
	RemoveRequested bool `json:",omitempty"`
	// UndoFailed: the undoing of the failed creation failed at least once. It goes on, but
	// the caller has been told, and the name is free.
	UndoFailed bool `json:",omitempty"`
	// Failure is why the creation failed, or why a ready sandbox was lost.
	Failure fault.Fault `json:",omitzero"`
	// Retries holds the effects that failed and are owed again.
	Retries backoff.Schedule `json:",omitempty"`
}

// Ended reports whether the sandbox is in a final phase and owes nothing more.
func Ended(s State) bool { return (s.final() || s.Phase == Absent) && len(Owed(s)) == 0 }

// NameFree reports whether another sandbox may take this one's name: from the moment that
// the caller of a failed creation is told, whatever is still owed.
func NameFree(s State) bool {
	return s.final() || s.Phase == Absent || s.Phase == Unwinding && s.UndoFailed
}

func (s State) final() bool { return s.Phase == Failed || s.Phase == Removed }

// copied returns s with its own containers and retries, so that Evolve does not change its argument.
func (s State) copied() State {
	s.Containers = slices.Clone(s.Containers)
	s.Retries = maps.Clone(s.Retries)
	return s
}
