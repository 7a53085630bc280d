package sandbox

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Command is a request to a sandbox, or the outcome of an effect.
//
//sumtype:decl
type Command interface{ command() }

// Run asks for the sandbox to be created (RunPodSandbox).
type Run struct {
	ID           id.Sandbox
	Name         Name
	Handler      string
	Config       []byte
	ConfigDigest string
	HostNetwork  bool
	SharedPID    bool
	At           time.Time
}

// AddContainer asks the pod to admit a container, before the container's own stream
// begins.
type AddContainer struct{ Container id.Container }

// AdoptContainer reports that a container of the pod exists that the sandbox never
// learned of: a daemon died between the two. A pod that is ending owes its end, too.
type AdoptContainer struct{ Container id.Container }

// ForgetContainer reports that a container of the pod is gone.
type ForgetContainer struct{ Container id.Container }

// UpdateResources reports what the pod may use as a whole from now on
// (UpdatePodSandboxResources).
type UpdateResources struct {
	// Resources is the CRI's LinuxPodSandboxConfig, protobuf-encoded, with overhead and
	// resources alone.
	Resources []byte
}

// Stop asks for everything in the pod to be stopped (StopPodSandbox).
type Stop struct{}

// Remove asks for the sandbox and its containers to be removed (RemovePodSandbox).
// What still runs is stopped first.
type Remove struct{}

// HolderExited is the monitor's report that the process that held the shared PID
// namespace ended.
type HolderExited struct {
	Code int
	At   time.Time
}

// NodeRebooted reports that the node rebooted since the last event: nothing that
// lived in the kernel is left.
type NodeRebooted struct{}

// PrepareSandboxDone is the outcome of PrepareSandbox.
type PrepareSandboxDone struct{ Err error }

// AttachNetworkDone is the outcome of AttachNetwork.
type AttachNetworkDone struct {
	IPs []string
	// Result is the plugins' CNI result, for post-mortems.
	Result []byte
	// MappedPorts are those of the node that Stele mapped, and Unserved is what the pod asks
	// for in vain; both in words.
	MappedPorts, Unserved []string
	Err                   error
}

// StartHolderDone is the outcome of StartHolder.
type StartHolderDone struct {
	PID int
	Err error
}

// StopContainerDone is the outcome of StopContainer.
type StopContainerDone struct {
	Container id.Container
	Err       error
	At        time.Time
}

// RemoveContainerDone is the outcome of RemoveContainer.
type RemoveContainerDone struct {
	Container id.Container
	Err       error
	At        time.Time
}

// StopHolderDone is the outcome of StopHolder.
type StopHolderDone struct {
	Err error
	At  time.Time
}

// DetachNetworkDone is the outcome of DetachNetwork.
type DetachNetworkDone struct {
	Err error
	At  time.Time
}

// ReleaseSandboxDone is the outcome of ReleaseSandbox.
type ReleaseSandboxDone struct {
	Err error
	At  time.Time
}

func (Run) command()                 {}
func (AddContainer) command()        {}
func (AdoptContainer) command()      {}
func (ForgetContainer) command()     {}
func (UpdateResources) command()     {}
func (Stop) command()                {}
func (Remove) command()              {}
func (HolderExited) command()        {}
func (NodeRebooted) command()        {}
func (PrepareSandboxDone) command()  {}
func (AttachNetworkDone) command()   {}
func (StartHolderDone) command()     {}
func (StopContainerDone) command()   {}
func (RemoveContainerDone) command() {}
func (StopHolderDone) command()      {}
func (DetachNetworkDone) command()   {}
func (ReleaseSandboxDone) command()  {}
