package sandbox

import (
	"maps"
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
// Failed and Removed are final: nothing leads out of them. A network that could
// not be detached stays owed even there, until it is.
type Phase string

const (
	// Absent: the stream is empty.
	Absent Phase = ""
	// Creating: Run was accepted; steps are owed until all of them are done.
	Creating Phase = "creating"
	// Ready: namespaces are pinned, the network is attached, the holder (if the
	// pod shares a PID namespace) runs. Containers may be added.
	Ready Phase = "ready"
	// Unwinding: a step of the creation failed; what was begun is being undone.
	Unwinding Phase = "unwinding"
	// Failed: the creation failed and left nothing. The name is free.
	Failed Phase = "failed"
	// Stopping: containers are being stopped, then the holder and the network.
	Stopping Phase = "stopping"
	// Stopped: no process of the pod runs. The network is detached, or its
	// detaching has failed at least once and goes on being owed.
	Stopped Phase = "stopped"
	// Removing: containers are being removed, then what the sandbox itself owns.
	Removing Phase = "removing"
	// Removed: the sandbox is gone. The name is free.
	Removed Phase = "removed"
)

// Name is the identity that the kubelet gives a sandbox. No two sandboxes that
// are not ended share one; the attempt tells a pod's successive sandboxes apart.
type Name struct {
	Name, Namespace, UID string
	Attempt              uint32
}

// State is everything that the sandbox's decisions need. Its exported fields
// are what a snapshot keeps.
type State struct {
	ID    id.Sandbox
	Phase Phase
	Name  Name
	// Handler is the runtime handler that the pod's containers run with.
	Handler string
	// Config is the CRI's PodSandboxConfig as it came, protobuf-encoded. The
	// machine hands it on to the effects without reading it.
	Config []byte
	// ConfigDigest tells a repeated request from a different one.
	ConfigDigest string
	CreatedAt    time.Time
	// HostNetwork: the pod uses the node's network; nothing is attached.
	HostNetwork bool `json:",omitempty"`
	// SharedPID: the pod's containers share a PID namespace, held by a process.
	SharedPID bool `json:",omitempty"`

	// Prepared: directories, files and namespaces exist.
	Prepared bool `json:",omitempty"`
	// Released: nothing of what Prepared made is left.
	Released bool `json:",omitempty"`
	Network  Network
	Holder   Holder
	// Containers maps each container of the pod that is not gone to whether it
	// was stopped on the sandbox's behalf.
	Containers map[id.Container]bool `json:",omitempty"`
	// RemoveRequested: once stopped, the sandbox is to be removed.
	RemoveRequested bool `json:",omitempty"`
	// Failure is why the creation failed, or why a ready sandbox was lost.
	Failure fault.Fault `json:",omitzero"`
	// Retries holds the effects that failed.
	Retries backoff.Schedule `json:",omitempty"`
}

// Ended reports whether the sandbox is in a final phase and owes nothing more.
func Ended(s State) bool { return (s.final() || s.Phase == Absent) && len(Owed(s)) == 0 }

// NameFree reports whether another sandbox may take this one's name.
func NameFree(s State) bool { return s.final() || s.Phase == Absent }

func (s State) final() bool { return s.Phase == Failed || s.Phase == Removed }

// copied returns s with maps of its own, so that Evolve leaves its argument as
// it was.
func (s State) copied() State {
	s.Containers = maps.Clone(s.Containers)
	s.Retries = maps.Clone(s.Retries)
	return s
}
