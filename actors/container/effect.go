package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Effect is work that a state calls for. Issuing one twice is harmless: the second
// finds what the first left.
//
//sumtype:decl
type Effect interface {
	// Key identifies the effect among all that one state can owe.
	Key() string
	// Resource names what the effect works on. Effects on one resource never overlap.
	Resource() string
	// NotBefore is the earliest time to issue the effect; zero means now.
	NotBefore() time.Time
	// Failed returns the outcome of the effect if it failed or panicked; with a nil
	// error, that of a success with nothing more to report.
	Failed(err error, at time.Time) Command
	effect()
}

// due is embedded in every effect. It seals the interface and holds the time to wait
// for.
type due struct {
	// After is the earliest time to issue the effect again after a failure.
	After time.Time
}

func (d due) NotBefore() time.Time { return d.After }
func (due) effect()                {}

// retry returns when f is due, given its failures so far.
func (s State) retry(f Effect) due { return due{s.Retries[f.Key()].At} }

// Spec is what effects need to know of the container.
type Spec struct {
	ID      id.Container
	Sandbox id.Sandbox
	Name    Name
	Handler string
	// Config and Resources are the configuration in force (see the function Config),
	// SandboxConfig is the CRI's PodSandboxConfig, protobuf-encoded.
	Config, Resources, SandboxConfig []byte
	Image                            string
	LogPath                          string
	CreatedAt                        time.Time
	// StartedAt is when its program was started, zero if it was not.
	StartedAt time.Time
	// LogUnused: the program never ran, and the log is nobody else's.
	LogUnused bool
	// Init is the container's first process, zero if there is none or it has ended.
	Init Process
}

// SpecOf returns what effects need to know of a container.
func SpecOf(s State) Spec { return s.spec() }

func (s State) spec() Spec {
	spec := Spec{
		ID: s.ID, Sandbox: s.Sandbox, Name: s.Name, Handler: s.Request.Handler,
		SandboxConfig: s.Request.SandboxConfig,
		Image:         s.Request.Image, LogPath: s.Request.LogPath, CreatedAt: s.Request.At,
		StartedAt: s.Run.StartedAt,
		LogUnused: s.Run.StartedAt.IsZero() && !s.Creation.UndoFailed,
	}
	spec.Config, spec.Resources = Config(s)
	if Alive(s) {
		spec.Init = s.Creation.Process
	}
	return spec
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

// AwaitGrace waits for the end of the grace period. It does nothing and cannot fail.
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

// UpdateRuntime has the runtime set other limits. Either all that Change asks for are in
// force afterwards, or those before.
type UpdateRuntime struct {
	Spec   Spec
	Update uint64
	// Change and ByPlugin are Update's.
	Change   []byte
	ByPlugin bool
	due
}

func (UpdateRuntime) Key() string      { return "update" }
func (UpdateRuntime) Resource() string { return onRuntime }
func (e UpdateRuntime) Failed(err error, _ time.Time) Command {
	return UpdateRuntimeDone{Update: e.Update, Err: err}
}

// RotateLog has the monitor open the log file again.
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

// DeleteRuntime kills what is left of the container and makes the runtime, the
// monitor and the kernel forget it.
type DeleteRuntime struct {
	Spec Spec
	due
}

func (DeleteRuntime) Key() string      { return "delete" }
func (DeleteRuntime) Resource() string { return onRuntime }
func (DeleteRuntime) Failed(err error, at time.Time) Command {
	return DeleteRuntimeDone{Err: err, At: at}
}

// ReleaseRootfs unmounts and deletes the root file system, and deletes the bundle.
type ReleaseRootfs struct {
	Spec Spec
	due
}

func (ReleaseRootfs) Key() string      { return "release rootfs" }
func (ReleaseRootfs) Resource() string { return onRootfs }
func (ReleaseRootfs) Failed(err error, at time.Time) Command {
	return ReleaseRootfsDone{Err: err, At: at}
}

// Resources that several effects share.
const (
	onRuntime = "runtime"
	onRootfs  = "rootfs"
)
