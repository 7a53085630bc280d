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

// due is embedded in every effect: the seal, and when the effect may be issued.
type due struct {
	// After is when an effect that failed may be issued again; zero if it may now.
	After time.Time
}

func (d due) NotBefore() time.Time { return d.After }
func (due) effect()                {}

// retry returns when f is due, by how often it has failed.
func (s State) retry(f Effect) due { return due{s.Retries[f.Key()].At} }

// Spec is what every effect on a container needs to know.
type Spec struct {
	ID      id.Container
	Sandbox id.Sandbox
	Name    Name
	Handler string
	// Config is the configuration in force (see the function Config), SandboxConfig
	// the CRI's PodSandboxConfig, protobuf-encoded.
	Config, SandboxConfig []byte
	Image                 string
	LogPath               string
	CreatedAt             time.Time
}

func (s State) spec() Spec {
	return Spec{
		ID: s.ID, Sandbox: s.Sandbox, Name: s.Name, Handler: s.Request.Handler,
		Config: Config(s), SandboxConfig: s.Request.SandboxConfig,
		Image: s.Request.Image, LogPath: s.Request.LogPath, CreatedAt: s.Request.At,
	}
}

// PrepareRootfs makes and mounts the root file system.
type PrepareRootfs struct {
	Spec Spec
	due
}

func (PrepareRootfs) Key() string      { return "prepare rootfs" }
func (PrepareRootfs) Resource() string { return onRootfs }
func (PrepareRootfs) Failed(err error, _ time.Time) Command {
	return PrepareRootfsDone{Err: err}
}

// CreateRuntime has the runtime create the container, under the monitor.
type CreateRuntime struct {
	Spec Spec
	due
}

func (CreateRuntime) Key() string      { return "create" }
func (CreateRuntime) Resource() string { return onRuntime }
func (CreateRuntime) Failed(err error, _ time.Time) Command {
	return CreateRuntimeDone{Err: err}
}

// StartRuntime has the runtime start the user's program.
type StartRuntime struct {
	Spec  Spec
	Asked time.Time
	due
}

func (StartRuntime) Key() string      { return "start" }
func (StartRuntime) Resource() string { return onRuntime }
func (StartRuntime) Failed(err error, at time.Time) Command {
	return StartRuntimeDone{Err: err, At: at}
}

// SignalStop sends the stop signal.
type SignalStop struct {
	Spec   Spec
	Signal string
	due
}

func (SignalStop) Key() string      { return "signal" }
func (SignalStop) Resource() string { return onRuntime }
func (SignalStop) Failed(err error, at time.Time) Command {
	return SignalStopDone{Err: err, At: at}
}

// AwaitGrace ends when the grace period does; it does nothing, and cannot fail.
type AwaitGrace struct {
	Deadline time.Time
	due
}

func (e AwaitGrace) Key() string                     { return "grace until " + e.Deadline.UTC().Format(time.RFC3339Nano) }
func (e AwaitGrace) Resource() string                { return e.Key() }
func (e AwaitGrace) NotBefore() time.Time            { return e.Deadline }
func (e AwaitGrace) Failed(error, time.Time) Command { return AwaitGraceDone{Deadline: e.Deadline} }

// Kill sends SIGKILL to every process of the container.
type Kill struct {
	Spec Spec
	due
}

func (Kill) Key() string                            { return "kill" }
func (Kill) Resource() string                       { return onRuntime }
func (Kill) Failed(err error, at time.Time) Command { return KillDone{Err: err, At: at} }

// Execute runs a command in the container.
type Execute struct {
	Spec    Spec
	Exec    id.Exec
	Command []string
	Timeout time.Duration
	due
}

func (e Execute) Key() string      { return "exec " + string(e.Exec) }
func (e Execute) Resource() string { return e.Key() }
func (e Execute) Failed(err error, _ time.Time) Command {
	return ExecuteDone{Exec: e.Exec, Err: err}
}

// RotateLog has the monitor open the log file anew.
type RotateLog struct {
	Spec   Spec
	Reopen uint64
	due
}

func (RotateLog) Key() string      { return "rotate log" }
func (RotateLog) Resource() string { return "log" }
func (e RotateLog) Failed(err error, _ time.Time) Command {
	return RotateLogDone{Reopen: e.Reopen, Err: err}
}

// DeleteRuntime ends what is left of the container and clears the runtime's,
// the monitor's and the kernel's memory of it.
type DeleteRuntime struct {
	Spec Spec
	due
}

func (DeleteRuntime) Key() string      { return "delete" }
func (DeleteRuntime) Resource() string { return onRuntime }
func (DeleteRuntime) Failed(err error, at time.Time) Command {
	return DeleteRuntimeDone{Err: err, At: at}
}

// ReleaseRootfs unmounts and deletes the root file system and the bundle.
type ReleaseRootfs struct {
	Spec Spec
	due
}

func (ReleaseRootfs) Key() string      { return "release rootfs" }
func (ReleaseRootfs) Resource() string { return onRootfs }
func (ReleaseRootfs) Failed(err error, at time.Time) Command {
	return ReleaseRootfsDone{Err: err, At: at}
}

// The resources that more than one effect works on.
const (
	onRuntime = "runtime"
	onRootfs  = "rootfs"
)
