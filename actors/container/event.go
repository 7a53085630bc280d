package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Event is a fact in the life of a container.
//
//sumtype:decl
type Event interface{ event() }

// ContainerRequested: the machine accepted the kubelet's CreateContainer. The root
// file system is owed.
type ContainerRequested struct {
	ID            id.Container
	Sandbox       id.Sandbox
	Name          Name
	Handler       string
	Config        []byte
	SandboxConfig []byte
	ConfigDigest  string
	Image         string
	LogPath       string
	StopSignal    string
	At            time.Time
}

// RootfsPrepared: the image store mounted the root file system. The runtime's
// container is owed.
type RootfsPrepared struct{}

// RootfsPrepareFailed: the image store could not make it. What was begun is owed
// undoing.
type RootfsPrepareFailed struct{ Fault fault.Fault }

// ContainerCreated: the runtime made the container; its init waits. The monitor
// named the process.
type ContainerCreated struct {
	Process Process
	User    User
	// SharedPIDs is Creation's.
	SharedPIDs bool
	// Adjustment is what NRI plug-ins changed.
	Adjustment Adjustment
}

// ContainerCreateFailed: the runtime, or a step before it, refused; or the node
// rebooted meanwhile. What was begun is owed undoing.
type ContainerCreateFailed struct{ Fault fault.Fault }

// ContainerFailed: the machine knows that the creation failed and left nothing.
// Final.
type ContainerFailed struct{}

// StartRequested: the machine accepted the kubelet's StartContainer. The start is
// owed.
type StartRequested struct{ At time.Time }

// ContainerStarted: the runtime started the user's program; it may have ended. If a
// daemon that died had started it, the time is that of StartRequested.
type ContainerStarted struct{ At time.Time }

// ContainerStartFailed: the runtime could not start the user's program, or the node
// rebooted meanwhile. An init that still waits is owed a kill.
type ContainerStartFailed struct {
	Fault fault.Fault
	At    time.Time
}

// StopRequested: a caller (the kubelet, or the container's sandbox) wants the
// container to end. The stop signal is owed now, SIGKILL at Deadline.
type StopRequested struct {
	Request  string
	Deadline time.Time
}

// StopWithdrawn: that caller went away; its Deadline no longer counts.
type StopWithdrawn struct{ Request string }

// StopSignalled: the runtime delivered the stop signal.
type StopSignalled struct{}

// StopSignalFailed: the runtime could not deliver it. The grace period runs all the
// same.
type StopSignalFailed struct{ Fault fault.Fault }

// KillRequested: the machine saw a grace period end, or a caller gave none. SIGKILL
// is owed.
type KillRequested struct {
	By By
	// GraceOver: a grace period ended.
	GraceOver bool
}

// Killed: the runtime delivered SIGKILL to every process of the container.
type Killed struct{}

// KillFailed: the runtime could not deliver it. It is owed again at RetryAt.
type KillFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// ContainerExited: the container's init ended, as the monitor, or the runtime's
// deletion, reported it; after a reboot the daemon records an unknown exit.
type ContainerExited struct{ Exit Exit }

// ExecRequested: the machine accepted the kubelet's ExecSync, or the client of an Exec.
// The command's run is owed.
type ExecRequested struct {
	Exec    id.Exec
	Command []string
	Timeout time.Duration
	// Attended: a client is connected to its streams (Exec).
	Attended bool
	// Stdin: the client has input for it. TTY: it has a terminal of its own.
	Stdin, TTY bool
}

// ExecEnded: the runtime saw the command end, by itself or at its timeout.
type ExecEnded struct {
	Exec     id.Exec
	Code     int
	TimedOut bool
}

// ExecFailed: the runtime could not run the command, its caller was gone, or the
// container was removed first.
type ExecFailed struct {
	Exec  id.Exec
	Fault fault.Fault
}

// ResourcesUpdateRequested: the machine accepted the kubelet's UpdateContainerResources,
// or an NRI plug-in's wish. The runtime's update is owed.
type ResourcesUpdateRequested struct {
	Update uint64
	// Change and ByPlugin are Update's.
	Change   []byte
	ByPlugin bool
}

// ResourcesUpdated: the runtime set the limits. Resources are all that are in force from
// now on.
type ResourcesUpdated struct {
	Update    uint64
	Resources []byte
}

// ResourcesUpdateFailed: the runtime, or the kernel, refused the limits, or the container
// was removed first. Those before are in force. It is not tried again.
type ResourcesUpdateFailed struct {
	Update uint64
	Fault  fault.Fault
}

// LogReopenRequested: the machine accepted the kubelet's ReopenContainerLog. Opening
// the file again is owed.
type LogReopenRequested struct{ Reopen uint64 }

// LogReopened: the monitor opened the new file and writes to it.
type LogReopened struct{ Reopen uint64 }

// LogReopenFailed: the monitor could not open it and writes where it did before.
// It is not tried again.
type LogReopenFailed struct {
	Reopen uint64
	Fault  fault.Fault
}

// OutputLost: the monitor dropped output that the log file refused, rather than hold
// up the container. Bytes counts from the container's creation.
type OutputLost struct {
	Bytes  uint64
	Reason string
}

// SyscallsBlocked: the monitor answered system calls that the container's seccomp profile
// forbids, and its pod wants to have them reported. Calls are the totals since the container's
// creation. If Stop, the pod wants it ended for them: KillRequested follows.
type SyscallsBlocked struct {
	Calls []BlockedSyscall
	Stop  bool
}

// ContainerSuperseded: a caller (the kubelet) asked for the container's name again, with
// another configuration, so that it does not know of this one. It was never started.
// Its removal is owed.
type ContainerSuperseded struct{}

// RemoveRequested: a caller (the kubelet, or the container's sandbox) wants the
// container gone. Whatever is left of it is owed undoing.
type RemoveRequested struct{ By By }

// RuntimeDeleted: the runtime and the monitor left nothing of the container. The
// root file system's release is owed.
type RuntimeDeleted struct{}

// RuntimeDeleteFailed: the runtime or the monitor could not. It is owed again at
// RetryAt.
type RuntimeDeleteFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// RootfsReleased: the executor removed root file system, bundle and volumes.
type RootfsReleased struct{}

// RootfsReleaseFailed: the executor could not. It is owed again at RetryAt.
type RootfsReleaseFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// ContainerRemoved: the machine knows that nothing is left. Final.
type ContainerRemoved struct{}

// Volatile reports whether a power failure may take an event away, although it was
// acted upon and its caller was answered. These must survive: that a container exists,
// for it has files on the disk; that its program may have run, because the kubelet runs
// that of a pod with restartPolicy Never only once and knows from the container that it
// did; how it ended, which is reported once. The rest may go: the container's processes
// end with the boot, and what is owed then undoes whatever was begun. A removed container
// may return as an exited one, which the kubelet removes again; so may its files, whose
// removal is not synced either.
func Volatile(e Event) bool {
	switch e.(type) {
	case ContainerRequested, StartRequested, ContainerStartFailed, ContainerExited:
		return false
	case RootfsPrepared, RootfsPrepareFailed, ContainerCreated, ContainerCreateFailed, ContainerFailed,
		ContainerStarted,
		StopRequested, StopWithdrawn, StopSignalled, StopSignalFailed, KillRequested, Killed, KillFailed,
		ExecRequested, ExecEnded, ExecFailed,
		ResourcesUpdateRequested, ResourcesUpdated, ResourcesUpdateFailed,
		LogReopenRequested, LogReopened, LogReopenFailed, OutputLost, SyscallsBlocked,
		ContainerSuperseded, RemoveRequested, RuntimeDeleted, RuntimeDeleteFailed, RootfsReleased, RootfsReleaseFailed, ContainerRemoved:
		return true
	}
	return false
}

func (ContainerRequested) event()       {}
func (RootfsPrepared) event()           {}
func (RootfsPrepareFailed) event()      {}
func (ContainerCreated) event()         {}
func (ContainerCreateFailed) event()    {}
func (ContainerFailed) event()          {}
func (StartRequested) event()           {}
func (ContainerStarted) event()         {}
func (ContainerStartFailed) event()     {}
func (StopRequested) event()            {}
func (StopWithdrawn) event()            {}
func (StopSignalled) event()            {}
func (StopSignalFailed) event()         {}
func (KillRequested) event()            {}
func (Killed) event()                   {}
func (KillFailed) event()               {}
func (ContainerExited) event()          {}
func (ExecRequested) event()            {}
func (ExecEnded) event()                {}
func (ExecFailed) event()               {}
func (ResourcesUpdateRequested) event() {}
func (ResourcesUpdated) event()         {}
func (ResourcesUpdateFailed) event()    {}
func (LogReopenRequested) event()       {}
func (LogReopened) event()              {}
func (OutputLost) event()               {}
func (SyscallsBlocked) event()          {}
func (LogReopenFailed) event()          {}
func (ContainerSuperseded) event()      {}
func (RemoveRequested) event()          {}
func (RuntimeDeleted) event()           {}
func (RuntimeDeleteFailed) event()      {}
func (RootfsReleased) event()           {}
func (RootfsReleaseFailed) event()      {}
func (ContainerRemoved) event()         {}
