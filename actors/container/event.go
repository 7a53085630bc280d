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

// ContainerRequested: the kubelet asked for the container and it was accepted.
// It makes its root file system owed.
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

// RootfsPrepared: the root file system is mounted. It makes the runtime's
// container owed.
type RootfsPrepared struct{}

// RootfsPrepareFailed: it could not be made; what was begun is owed undoing.
type RootfsPrepareFailed struct{ Fault fault.Fault }

// ContainerCreated: the runtime made the container and its init waits.
type ContainerCreated struct{ Process Process }

// ContainerCreateFailed: the runtime refused; what was begun is owed undoing.
type ContainerCreateFailed struct{ Fault fault.Fault }

// ContainerFailed: the creation failed and left nothing. Final.
type ContainerFailed struct{}

// StartRequested: the kubelet asked for the start, which is owed now.
type StartRequested struct{ At time.Time }

// ContainerStarted: the user's program runs, or ran. If a daemon that died had
// started it, the time is that of StartRequested.
type ContainerStarted struct{ At time.Time }

// ContainerStartFailed: the runtime could not start the user's program. What
// waits to be started is owed a kill.
type ContainerStartFailed struct {
	Fault fault.Fault
	At    time.Time
}

// StopRequested: somebody wants the container to end, and kills it at Deadline.
type StopRequested struct {
	Request  string
	Deadline time.Time
}

// StopWithdrawn: that somebody went away; its Deadline no longer counts.
type StopWithdrawn struct{ Request string }

// StopSignalled: the stop signal was delivered.
type StopSignalled struct{}

// StopSignalFailed: it could not be delivered; the grace period runs all the
// same.
type StopSignalFailed struct{ Fault fault.Fault }

// KillRequested: a grace period ended, or none was given. SIGKILL is owed.
type KillRequested struct{}

// Killed: SIGKILL was delivered to every process of the container.
type Killed struct{}

// KillFailed: it could not be delivered; it is owed again later.
type KillFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// ContainerExited: the container's init ended.
type ContainerExited struct{ Exit Exit }

// ExecRequested: a command is owed its run beside the container's own process.
type ExecRequested struct {
	Exec    id.Exec
	Command []string
	Timeout time.Duration
}

// ExecEnded: it ended by itself, or was ended at its timeout.
type ExecEnded struct {
	Exec     id.Exec
	Code     int
	TimedOut bool
}

// ExecFailed: it could not be run, or was interrupted.
type ExecFailed struct {
	Exec  id.Exec
	Fault fault.Fault
}

// LogReopenRequested: the log file is owed its opening anew.
type LogReopenRequested struct{ Reopen uint64 }

// LogReopened: output goes to the new file.
type LogReopened struct{ Reopen uint64 }

// LogReopenFailed: the new file could not be opened; output goes where it went.
type LogReopenFailed struct {
	Reopen uint64
	Fault  fault.Fault
}

// OutputLost: the log file refused output, which is gone; the container was not
// held up. Learned from the monitor. Bytes counts from the container's creation.
type OutputLost struct {
	Bytes  uint64
	Reason string
}

// RemoveRequested: the container is owed removing.
type RemoveRequested struct{}

// RuntimeDeleted: nothing of the runtime's container is left.
type RuntimeDeleted struct{}

// RuntimeDeleteFailed: deleting failed; it is owed again later.
type RuntimeDeleteFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// RootfsReleased: root file system and bundle are gone.
type RootfsReleased struct{}

// RootfsReleaseFailed: releasing failed; it is owed again later.
type RootfsReleaseFailed struct {
	Fault   fault.Fault
	RetryAt time.Time
}

// ContainerRemoved: the container is gone. Final.
type ContainerRemoved struct{}

// Volatile reports whether an event may be lost with the node's power, although it was
// acted upon and its caller was answered. What must not be lost: that a container exists,
// for it has things on the disk; that its program may have run, since the kubelet runs
// that of a pod with restartPolicy Never once only, and knows by the container that it
// did; how it ended, which is told once. What may: how far it had come otherwise, for its
// processes end with the boot, and what is owed then undoes the rest, whether or not it
// was begun. One that was removed may come back as one that has ended, for the kubelet to
// remove again; so may its files, whose removal is not synced either.
func Volatile(e Event) bool {
	switch e.(type) {
	case ContainerRequested, StartRequested, ContainerStartFailed, ContainerExited:
		return false
	case RootfsPrepared, RootfsPrepareFailed, ContainerCreated, ContainerCreateFailed, ContainerFailed,
		ContainerStarted,
		StopRequested, StopWithdrawn, StopSignalled, StopSignalFailed, KillRequested, Killed, KillFailed,
		ExecRequested, ExecEnded, ExecFailed,
		LogReopenRequested, LogReopened, LogReopenFailed, OutputLost,
		RemoveRequested, RuntimeDeleted, RuntimeDeleteFailed, RootfsReleased, RootfsReleaseFailed, ContainerRemoved:
		return true
	}
	return false
}

func (ContainerRequested) event()    {}
func (RootfsPrepared) event()        {}
func (RootfsPrepareFailed) event()   {}
func (ContainerCreated) event()      {}
func (ContainerCreateFailed) event() {}
func (ContainerFailed) event()       {}
func (StartRequested) event()        {}
func (ContainerStarted) event()      {}
func (ContainerStartFailed) event()  {}
func (StopRequested) event()         {}
func (StopWithdrawn) event()         {}
func (StopSignalled) event()         {}
func (StopSignalFailed) event()      {}
func (KillRequested) event()         {}
func (Killed) event()                {}
func (KillFailed) event()            {}
func (ContainerExited) event()       {}
func (ExecRequested) event()         {}
func (ExecEnded) event()             {}
func (ExecFailed) event()            {}
func (LogReopenRequested) event()    {}
func (LogReopened) event()           {}
func (OutputLost) event()            {}
func (LogReopenFailed) event()       {}
func (RemoveRequested) event()       {}
func (RuntimeDeleted) event()        {}
func (RuntimeDeleteFailed) event()   {}
func (RootfsReleased) event()        {}
func (RootfsReleaseFailed) event()   {}
func (ContainerRemoved) event()      {}
