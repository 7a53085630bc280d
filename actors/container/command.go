package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Command is a request to a container, or the outcome of an effect.
//
//sumtype:decl
type Command interface{ command() }

// Create asks for the container to be created (CreateContainer).
type Create struct {
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

// Start asks for the user's program to be started (StartContainer).
type Start struct{ At time.Time }

// Stop asks for the container to end (StopContainer): with the stop signal,
// and with SIGKILL once Grace has passed. A Grace of zero kills at once.
type Stop struct {
	// Request tells one caller from another.
	Request string
	Grace   time.Duration
	At      time.Time
}

// WithdrawStop reports that the caller of a Stop went away before the grace period
// ended; it takes back that caller's SIGKILL.
type WithdrawStop struct{ Request string }

// Remove asks for the container to be removed (RemoveContainer, or its pod's removal). A
// running one is killed first.
type Remove struct{ By By }

// RunExec asks for a command to be run in the container (ExecSync, Exec).
type RunExec struct {
	Exec    id.Exec
	Command []string
	Timeout time.Duration
	// Attended: a client is connected to its streams (Exec).
	Attended bool
	// Stdin: the client has input for it. TTY: it gets a terminal of its own.
	Stdin, TTY bool
}

// UpdateResources asks for other limits (UpdateContainerResources).
type UpdateResources struct {
	// Change and ByPlugin are Update's.
	Change   []byte
	ByPlugin bool
}

// ReopenLog asks for the log file to be opened again (ReopenContainerLog).
type ReopenLog struct{}

// RecordExit is the monitor's report that the container's init ended. Process is
// that init, as far as the monitor knows; an init that an earlier attempt at the
// creation left does not count.
type RecordExit struct {
	Exit    Exit
	Process Process
}

// ReportLoss is the monitor's report that the log file refused output.
type ReportLoss struct {
	// Bytes counts what was lost since the container's creation.
	Bytes  uint64
	Reason string
}

// ReportBlocked is the monitor's report of system calls that the container's seccomp profile
// forbids.
type ReportBlocked struct {
	// Calls are the totals since the container's creation, each name once.
	Calls []BlockedSyscall
	// Stop: the pod wants the container ended for them, and it makes no more.
	Stop bool
}

// NodeRebooted reports that the node rebooted since the last event: no process from
// before is left.
type NodeRebooted struct{ At time.Time }

// CallersLost reports that the daemon that was asked has ended, and with it every call: nobody
// waits for a creation any more.
type CallersLost struct{}

// PrepareRootfsDone is the outcome of PrepareRootfs.
type PrepareRootfsDone struct{ Err error }

// CreateRuntimeDone is the outcome of CreateRuntime.
type CreateRuntimeDone struct {
	Process Process
	User    User
	// SharedPIDs is Creation's.
	SharedPIDs bool
	// Adjustment is what NRI plug-ins changed.
	Adjustment Adjustment
	Err        error
}

// StartRuntimeDone is the outcome of StartRuntime.
type StartRuntimeDone struct {
	Err error
	At  time.Time
}

// SignalStopDone is the outcome of SignalStop.
type SignalStopDone struct {
	Err error
	At  time.Time
}

// AwaitGraceDone is the outcome of AwaitGrace: Deadline has passed.
type AwaitGraceDone struct{ Deadline time.Time }

// KillDone is the outcome of Kill.
type KillDone struct {
	Err error
	At  time.Time
}

// ExecuteDone is the outcome of Execute.
type ExecuteDone struct {
	Exec     id.Exec
	Code     int
	TimedOut bool
	Err      error
}

// UpdateRuntimeDone is the outcome of UpdateRuntime.
type UpdateRuntimeDone struct {
	Update uint64
	// Resources are all limits that are in force now, as Resources.InForce has them.
	Resources []byte
	Err       error
}

// RotateLogDone is the outcome of RotateLog.
type RotateLogDone struct {
	Reopen uint64
	Err    error
}

// DeleteRuntimeDone is the outcome of DeleteRuntime. If Exited, Exit is how the init
// ended; the RecordExit may still be on its way.
type DeleteRuntimeDone struct {
	Exited bool
	Exit   Exit
	Err    error
	At     time.Time
}

// ReleaseRootfsDone is the outcome of ReleaseRootfs.
type ReleaseRootfsDone struct {
	Err error
	At  time.Time
}

func (Create) command()            {}
func (Start) command()             {}
func (Stop) command()              {}
func (WithdrawStop) command()      {}
func (Remove) command()            {}
func (RunExec) command()           {}
func (UpdateResources) command()   {}
func (ReopenLog) command()         {}
func (RecordExit) command()        {}
func (ReportLoss) command()        {}
func (ReportBlocked) command()     {}
func (NodeRebooted) command()      {}
func (CallersLost) command()       {}
func (PrepareRootfsDone) command() {}
func (CreateRuntimeDone) command() {}
func (StartRuntimeDone) command()  {}
func (SignalStopDone) command()    {}
func (AwaitGraceDone) command()    {}
func (KillDone) command()          {}
func (ExecuteDone) command()       {}
func (UpdateRuntimeDone) command() {}
func (RotateLogDone) command()     {}
func (DeleteRuntimeDone) command() {}
func (ReleaseRootfsDone) command() {}
