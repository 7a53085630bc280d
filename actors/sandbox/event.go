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

// SandboxRequested: the kubelet asked for the sandbox and it was accepted. It
// makes its preparation owed.
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

// SandboxPrepared: directories, files and namespaces exist. It makes the
// network and the holder owed; from here on both must be undone, too.
type SandboxPrepared struct{}

// SandboxPrepareFailed: the preparation failed; what it left is owed undoing.
type SandboxPrepareFailed struct{ Fault fault.Fault }

// NetworkAttached: every plugin of the pod network reported success.
type NetworkAttached struct {
	IPs    []string
	Result []byte
}

// NetworkAttachFailed: a plugin failed. What the others did is owed undoing.
type NetworkAttachFailed struct{ Fault fault.Fault }

// HolderStarted: the process that holds the shared PID namespace runs.
type HolderStarted struct{ PID int }

// HolderStartFailed: that process could not be started.
type HolderStartFailed struct{ Fault fault.Fault }

// SandboxReady: every step of the creation is done.
type SandboxReady struct{}

// SandboxFailed: the creation failed and what it had begun is undone. Final.
type SandboxFailed struct{}

// ContainerAdded: a container was admitted to the pod; stopping and removing
// it is the sandbox's duty from now on.
type ContainerAdded struct{ Container id.Container }

// ContainerForgotten: a container of the pod is gone, or never came to be.
type ContainerForgotten struct{ Container id.Container }

// StopRequested: everything in the pod is owed stopping.
type StopRequested struct{}

// RemoveRequested: once stopped, the sandbox is owed removing.
type RemoveRequested struct{}

// SandboxLost: the pod's kernel resources went away by themselves (the holder
// ended, the node was rebooted). It makes the rest owed stopping.
type SandboxLost struct{ Fault fault.Fault }

// HolderEnded: the monitor saw the holder end.
type HolderEnded struct {
	Code int
	At   time.Time
}

// ContainerStopped: a container of the pod has no process any more.
type ContainerStopped struct{ Container id.Container }

// ContainerStopFailed: stopping a container failed; it is owed again later.
type ContainerStopFailed struct {
	Container id.Container
	Fault     fault.Fault
	RetryAt   time.Time
}

// ContainerRemoveFailed: removing a container failed; it is owed again later.
type ContainerRemoveFailed struct {
	Container id.Container
	Fault     fault.Fault
	RetryAt   time.Time
}

// HolderStopped: nothing of the holder is left.
type HolderStopped struct{}

// HolderStopFailed: stopping the holder failed; it is owed again later.
type HolderStopFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// NetworkDetached: nothing of the pod's network is left, its addresses are free.
type NetworkDetached struct{}

// NetworkDetachFailed: a plugin failed to undo its work; it is owed again
// later, even after the sandbox was removed.
type NetworkDetachFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// SandboxStopped: no process of the pod runs, and the network had its chance
// to detach.
type SandboxStopped struct{}

// SandboxReleased: directories, files and namespaces are gone.
type SandboxReleased struct{}

// SandboxReleaseFailed: releasing failed; it is owed again later.
type SandboxReleaseFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// SandboxRemoved: the sandbox and its containers are gone. Final.
type SandboxRemoved struct{}

// Volatile reports whether an event may be lost with the node's power, although it was
// acted upon and its caller was answered. What must not be lost: that a sandbox exists,
// for it has an address, which plugins keep on the disk. What may: how far it had come,
// for its namespaces and processes end with the boot, and what is owed then undoes the
// rest, whether or not it was begun. One that was removed may come back as one that has
// stopped, for the kubelet to remove again.
func Volatile(e Event) bool {
	switch e.(type) {
	case SandboxRequested:
		return false
	case SandboxPrepared, SandboxPrepareFailed, NetworkAttached, NetworkAttachFailed,
		HolderStarted, HolderStartFailed, HolderEnded, SandboxReady, SandboxFailed, SandboxLost,
		ContainerAdded, ContainerForgotten, ContainerStopped, ContainerStopFailed, ContainerRemoveFailed,
		StopRequested, HolderStopped, HolderStopFailed, NetworkDetached, NetworkDetachFailed, SandboxStopped,
		RemoveRequested, SandboxReleased, SandboxReleaseFailed, SandboxRemoved:
		return true
	}
	return false
}

func (SandboxRequested) event()      {}
func (SandboxPrepared) event()       {}
func (SandboxPrepareFailed) event()  {}
func (NetworkAttached) event()       {}
func (NetworkAttachFailed) event()   {}
func (HolderStarted) event()         {}
func (HolderStartFailed) event()     {}
func (SandboxReady) event()          {}
func (SandboxFailed) event()         {}
func (ContainerAdded) event()        {}
func (ContainerForgotten) event()    {}
func (StopRequested) event()         {}
func (RemoveRequested) event()       {}
func (SandboxLost) event()           {}
func (HolderEnded) event()           {}
func (ContainerStopped) event()      {}
func (ContainerStopFailed) event()   {}
func (ContainerRemoveFailed) event() {}
func (HolderStopped) event()         {}
func (HolderStopFailed) event()      {}
func (NetworkDetached) event()       {}
func (NetworkDetachFailed) event()   {}
func (SandboxStopped) event()        {}
func (SandboxReleased) event()       {}
func (SandboxReleaseFailed) event()  {}
func (SandboxRemoved) event()        {}
