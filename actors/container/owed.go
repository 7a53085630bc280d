package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Effect is work that a state calls for. Issuing one twice is harmless: each
// finds what the first left.
//
//sumtype:decl
type Effect interface {
	// Key tells an effect from all others that the same state can owe.
	Key() string
	// Resource names what the effect works on; effects on one resource never
	// run at the same time.
	Resource() string
	// NotBefore is when the effect may be issued; the zero time means now.
	NotBefore() time.Time
	// Failed is the effect's outcome when it failed, or panicked, at a time. With
	// no error it is that of a success with nothing to report.
	Failed(err error, at time.Time) Command
	effect()
}

// Spec is what every effect on a container needs to know.
type Spec struct {
	ID      id.Container
	Sandbox id.Sandbox
	Name    Name
	Handler string
	// Config and SandboxConfig are the CRI's messages, protobuf-encoded.
	Config, SandboxConfig []byte
	Image                 string
	LogPath               string
	CreatedAt             time.Time
}

// PrepareRootfs makes and mounts the root file system.
type PrepareRootfs struct{ Spec Spec }

// CreateRuntime has the runtime create the container, under the monitor.
type CreateRuntime struct{ Spec Spec }

// StartRuntime has the runtime start the user's program.
type StartRuntime struct {
	Spec  Spec
	Asked time.Time
}

// SignalStop sends the stop signal.
type SignalStop struct {
	Spec   Spec
	Signal string
}

// AwaitGrace ends when the grace period does; it does nothing.
type AwaitGrace struct{ Deadline time.Time }

// Kill sends SIGKILL to every process of the container.
type Kill struct {
	Spec  Spec
	After time.Time
}

// Execute runs a command in the container.
type Execute struct {
	Spec    Spec
	Exec    id.Exec
	Command []string
	Timeout time.Duration
}

// RotateLog has the monitor open the log file anew.
type RotateLog struct {
	Spec   Spec
	Reopen uint64
}

// DeleteRuntime ends what is left of the container and clears the runtime's,
// the monitor's and the kernel's memory of it.
type DeleteRuntime struct {
	Spec  Spec
	After time.Time
}

// ReleaseRootfs unmounts and deletes the root file system and the bundle.
type ReleaseRootfs struct {
	Spec  Spec
	After time.Time
}

func (PrepareRootfs) Key() string { return "prepare rootfs" }
func (CreateRuntime) Key() string { return "create" }
func (StartRuntime) Key() string  { return "start" }
func (SignalStop) Key() string    { return "signal" }
func (e AwaitGrace) Key() string  { return "grace until " + e.Deadline.UTC().Format(time.RFC3339Nano) }
func (Kill) Key() string          { return "kill" }
func (e Execute) Key() string     { return "exec " + string(e.Exec) }
func (e RotateLog) Key() string   { return "rotate log" }
func (DeleteRuntime) Key() string { return "delete" }
func (ReleaseRootfs) Key() string { return "release rootfs" }

func (PrepareRootfs) Resource() string { return "rootfs" }
func (CreateRuntime) Resource() string { return "runtime" }
func (StartRuntime) Resource() string  { return "runtime" }
func (SignalStop) Resource() string    { return "runtime" }
func (e AwaitGrace) Resource() string  { return e.Key() }
func (Kill) Resource() string          { return "runtime" }
func (e Execute) Resource() string     { return e.Key() }
func (RotateLog) Resource() string     { return "log" }
func (DeleteRuntime) Resource() string { return "runtime" }
func (ReleaseRootfs) Resource() string { return "rootfs" }

func (PrepareRootfs) NotBefore() time.Time   { return time.Time{} }
func (CreateRuntime) NotBefore() time.Time   { return time.Time{} }
func (StartRuntime) NotBefore() time.Time    { return time.Time{} }
func (SignalStop) NotBefore() time.Time      { return time.Time{} }
func (e AwaitGrace) NotBefore() time.Time    { return e.Deadline }
func (e Kill) NotBefore() time.Time          { return e.After }
func (Execute) NotBefore() time.Time         { return time.Time{} }
func (RotateLog) NotBefore() time.Time       { return time.Time{} }
func (e DeleteRuntime) NotBefore() time.Time { return e.After }
func (e ReleaseRootfs) NotBefore() time.Time { return e.After }

func (PrepareRootfs) Failed(err error, _ time.Time) Command { return PrepareRootfsDone{Err: err} }
func (CreateRuntime) Failed(err error, _ time.Time) Command { return CreateRuntimeDone{Err: err} }
func (StartRuntime) Failed(err error, at time.Time) Command {
	return StartRuntimeDone{Err: err, At: at}
}
func (SignalStop) Failed(err error, at time.Time) Command { return SignalStopDone{Err: err, At: at} }

// Failed is also the outcome of a success: the time passes by itself.
func (e AwaitGrace) Failed(error, time.Time) Command    { return AwaitGraceDone{Deadline: e.Deadline} }
func (Kill) Failed(err error, at time.Time) Command     { return KillDone{Err: err, At: at} }
func (e Execute) Failed(err error, _ time.Time) Command { return ExecuteDone{Exec: e.Exec, Err: err} }
func (e RotateLog) Failed(err error, _ time.Time) Command {
	return RotateLogDone{Reopen: e.Reopen, Err: err}
}
func (DeleteRuntime) Failed(err error, at time.Time) Command {
	return DeleteRuntimeDone{Err: err, At: at}
}
func (ReleaseRootfs) Failed(err error, at time.Time) Command {
	return ReleaseRootfsDone{Err: err, At: at}
}

func (PrepareRootfs) effect() {}
func (CreateRuntime) effect() {}
func (StartRuntime) effect()  {}
func (SignalStop) effect()    {}
func (AwaitGrace) effect()    {}
func (Kill) effect()          {}
func (Execute) effect()       {}
func (RotateLog) effect()     {}
func (DeleteRuntime) effect() {}
func (ReleaseRootfs) effect() {}

// Owed names the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	var owed []Effect
	switch s.Phase {
	case Creating:
		if !s.Creation.RootfsPrepared {
			owed = append(owed, PrepareRootfs{s.spec()})
		} else {
			owed = append(owed, CreateRuntime{s.spec()})
		}
	case Starting:
		owed = append(owed, StartRuntime{Spec: s.spec(), Asked: s.Run.RequestedAt})
		owed = append(owed, owedStopping(s)...)
	case Created, Running:
		owed = append(owed, owedStopping(s)...)
	case Exited:
		// A start that failed leaves an init that waits for ever.
		if s.Creation.Process.PID != 0 && !s.Run.ExitSeen && s.Stopping.Killing && !s.Stopping.KillSent {
			owed = append(owed, s.kill())
		}
	case Unwinding, Removing:
		owed = append(owed, owedUndoing(s)...)
	case Absent, Failed, Removed:
	}
	for _, x := range s.execIDs() {
		owed = append(owed, Execute{Spec: s.spec(), Exec: x, Command: s.Execs[x].Command, Timeout: s.Execs[x].Timeout})
	}
	if s.Logs.ReopensDone < s.Logs.ReopensAsked && !s.final() {
		owed = append(owed, RotateLog{Spec: s.spec(), Reopen: s.Logs.ReopensAsked})
	}
	return owed
}

// Announced reports whether the state says already that an effect comes once the one
// under way is done, and owes the undoing of both. Then the effect need not wait until
// the outcome of the other is durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case CreateRuntime:
		return s.Phase == Creating
	case ReleaseRootfs:
		return s.Phase == Unwinding || s.Phase == Removing
	default: // What the others need is not known before.
	}
	return false
}

func owedStopping(s State) []Effect {
	switch {
	case s.Run.ExitSeen, s.Stopping.KillSent:
		return nil
	case s.Stopping.Killing:
		return []Effect{s.kill()}
	case len(s.Stopping.Requests) == 0:
		return nil
	}
	owed := []Effect{AwaitGrace{s.patience()}}
	if !s.Stopping.Signalled && s.Phase != Starting {
		owed = append(owed, SignalStop{Spec: s.spec(), Signal: s.Request.StopSignal})
	}
	return owed
}

func owedUndoing(s State) []Effect {
	switch {
	case !s.Removal.RuntimeDeleted:
		e := DeleteRuntime{Spec: s.spec()}
		e.After = s.Retries[e.Key()].At
		return []Effect{e}
	case !s.Removal.RootfsReleased:
		e := ReleaseRootfs{Spec: s.spec()}
		e.After = s.Retries[e.Key()].At
		return []Effect{e}
	}
	return nil
}

func (s State) kill() Effect {
	e := Kill{Spec: s.spec()}
	e.After = s.Retries[e.Key()].At
	return e
}

func (s State) spec() Spec {
	return Spec{
		ID: s.ID, Sandbox: s.Sandbox, Name: s.Name, Handler: s.Request.Handler,
		Config: s.Request.Config, SandboxConfig: s.Request.SandboxConfig,
		Image: s.Request.Image, LogPath: s.Request.LogPath, CreatedAt: s.Request.At,
	}
}
