package sandbox

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Event is a fact in the life of a sandbox.
//
//sumtype:decl
type Event interface{ event() }

// SandboxRequested: the machine accepted the kubelet's RunPodSandbox. The
// preparation is owed.
type SandboxRequested struct {
	ID           id.Sandbox
	Name         Name
	Handler      string
	Config       []byte
	ConfigDigest string
	HostNetwork  bool
	SharedPID    bool
	At           time.Time
}

// SandboxPrepared: the executor made directories, files and namespaces. The network
// and the holder are owed.
type SandboxPrepared struct{}

// SandboxPrepareFailed: the executor could not. What was begun is owed undoing.
type SandboxPrepareFailed struct{ Fault fault.Fault }

// NetworkAttached: every CNI plugin of the pod network reported success.
type NetworkAttached struct {
	IPs    []string
	Result []byte
}

// HostPortsMapped: the executor mapped the pod's host ports itself, as no plugin of its network
// can. Detaching the network undoes that, too.
type HostPortsMapped struct {
	// Ports are in words: "8080/tcp on 10.0.0.1 to port 80".
	Ports []string
}

// NetworkRequestsUnserved: the executor found that neither the pod's network nor Stele can do
// what the pod asks for. It runs without.
type NetworkRequestsUnserved struct {
	// Requests are in words, each with the field or annotation and the reason.
	Requests []string
}

// NetworkAttachFailed: a CNI plugin failed, or a port of the node could not be mapped. What was
// begun is owed undoing.
type NetworkAttachFailed struct{ Fault fault.Fault }

// HolderStarted: the runtime started the process that holds the shared PID namespace.
type HolderStarted struct{ PID int }

// HolderStartFailed: the runtime could not. What was begun is owed undoing.
type HolderStartFailed struct{ Fault fault.Fault }

// SandboxReady: the machine knows that every step of the creation is done.
type SandboxReady struct{}

// SandboxFailed: the machine knows that the creation failed and was undone. Final.
type SandboxFailed struct{}

// ContainerAdded: the machine admitted a container to the pod. From now on the
// sandbox has to stop and remove it.
type ContainerAdded struct{ Container id.Container }

// ContainerForgotten: the node reported that a container of the pod is gone, or was
// never created.
type ContainerForgotten struct{ Container id.Container }

// StopRequested: the kubelet wants the pod stopped. Everything in it is owed stopping.
type StopRequested struct{}

// RemoveRequested: the kubelet wants the sandbox removed. Its removal is owed once it
// is stopped.
type RemoveRequested struct{}

// SandboxLost: the pod's kernel resources are gone: the monitor saw the holder end,
// or the node rebooted. What is left is owed stopping.
type SandboxLost struct{ Fault fault.Fault }

// HolderEnded: the monitor saw the holder end.
type HolderEnded struct {
	Code int
	At   time.Time
}

// ContainerStopped: a container of the pod reported that it has no process any more.
type ContainerStopped struct{ Container id.Container }

// ContainerStopFailed: a container reported that it could not be stopped. Stopping it
// is owed again at RetryAt.
type ContainerStopFailed struct {
	Container id.Container
	Fault     fault.Fault
	RetryAt   time.Time
}

// ContainerRemoveFailed: a container reported that it could not be removed. Removing
// it is owed again at RetryAt.
type ContainerRemoveFailed struct {
	Container id.Container
	Fault     fault.Fault
	RetryAt   time.Time
}

// HolderStopped: the runtime and the monitor left nothing of the holder.
type HolderStopped struct{}

// HolderStopFailed: they could not. It is owed again at RetryAt.
type HolderStopFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// NetworkDetached: every CNI plugin confirmed that nothing of the pod's network is
// left; its addresses are free, and the node's ports, too.
type NetworkDetached struct{}

// NetworkDetachFailed: a CNI plugin could not undo its work. It is owed again at
// RetryAt, even after the sandbox was removed.
type NetworkDetachFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// SandboxStopped: the machine knows that no process of the pod runs, and that
// detaching the network was tried.
type SandboxStopped struct{}

// SandboxReleased: the executor removed directories, files and namespaces.
type SandboxReleased struct{}

// SandboxReleaseFailed: the executor could not. It is owed again at RetryAt.
type SandboxReleaseFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// SandboxRemoved: the machine knows that the sandbox and its containers are gone.
// Final.
type SandboxRemoved struct{}

// ResourcesUpdated: the kubelet said what the pod may use as a whole from now on. New
// containers of the pod, and who asks for its status, learn it. Nothing is owed: the kubelet
// changes the pod's cgroup itself.
type ResourcesUpdated struct {
	// Resources is UpdateResources's.
	Resources []byte
}

// Volatile reports whether a power failure may take an event away, although it was
// acted upon and its caller was answered. That a sandbox exists must survive, for it has
// an address, which plugins keep on the disk. How far it had come may go: its namespaces
// and processes end with the boot, and what is owed then undoes whatever was begun. A
// removed sandbox may return as a stopped one, which the kubelet removes again.
func Volatile(e Event) bool {
	switch e.(type) {
	case SandboxRequested:
		return false
	case SandboxPrepared, SandboxPrepareFailed, NetworkAttached, HostPortsMapped, NetworkRequestsUnserved, NetworkAttachFailed,
		HolderStarted, HolderStartFailed, HolderEnded, SandboxReady, SandboxFailed, SandboxLost,
		ResourcesUpdated, ContainerAdded, ContainerForgotten, ContainerStopped, ContainerStopFailed, ContainerRemoveFailed,
		StopRequested, HolderStopped, HolderStopFailed, NetworkDetached, NetworkDetachFailed, SandboxStopped,
		RemoveRequested, SandboxReleased, SandboxReleaseFailed, SandboxRemoved:
		return true
	}
	return false
}

func (SandboxRequested) event()        {}
func (SandboxPrepared) event()         {}
func (SandboxPrepareFailed) event()    {}
func (NetworkAttached) event()         {}
func (HostPortsMapped) event()         {}
func (NetworkRequestsUnserved) event() {}
func (NetworkAttachFailed) event()     {}
func (HolderStarted) event()           {}
func (HolderStartFailed) event()       {}
func (ResourcesUpdated) event()        {}
func (SandboxReady) event()            {}
func (SandboxFailed) event()           {}
func (ContainerAdded) event()          {}
func (ContainerForgotten) event()      {}
func (StopRequested) event()           {}
func (RemoveRequested) event()         {}
func (SandboxLost) event()             {}
func (HolderEnded) event()             {}
func (ContainerStopped) event()        {}
func (ContainerStopFailed) event()     {}
func (ContainerRemoveFailed) event()   {}
func (HolderStopped) event()           {}
func (HolderStopFailed) event()        {}
func (NetworkDetached) event()         {}
func (NetworkDetachFailed) event()     {}
func (SandboxStopped) event()          {}
func (SandboxReleased) event()         {}
func (SandboxReleaseFailed) event()    {}
func (SandboxRemoved) event()          {}
