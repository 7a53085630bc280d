package sandbox

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

// Pod is what effects on a sandbox's own resources need to know of it.
type Pod struct {
	ID      id.Sandbox
	Handler string
	// Config is the CRI's PodSandboxConfig, protobuf-encoded.
	Config                 []byte
	HostNetwork, SharedPID bool
}

// PodOf returns what effects need to know of a sandbox.
func PodOf(s State) Pod { return s.pod() }

func (s State) pod() Pod {
	return Pod{ID: s.ID, Handler: s.Handler, Config: s.Config, HostNetwork: s.HostNetwork, SharedPID: s.SharedPID}
}

// PrepareSandbox makes directories, files and namespaces.
type PrepareSandbox struct {
	Pod Pod
	due
}

func (PrepareSandbox) Key() string      { return "prepare" }
func (PrepareSandbox) Resource() string { return onSandbox }
func (PrepareSandbox) Failed(err error, _ time.Time) Command {
	return PrepareSandboxDone{Err: err}
}

// AttachNetwork executes CNI ADD, and then maps ports of the node if no plugin can.
type AttachNetwork struct {
	Pod Pod
	due
}

func (AttachNetwork) Key() string      { return "attach network" }
func (AttachNetwork) Resource() string { return onNetwork }
func (AttachNetwork) Failed(err error, _ time.Time) Command {
	return AttachNetworkDone{Err: err}
}

// StartHolder starts the process that holds the shared PID namespace.
type StartHolder struct {
	Pod Pod
	due
}

func (StartHolder) Key() string      { return "start holder" }
func (StartHolder) Resource() string { return onHolder }
func (StartHolder) Failed(err error, _ time.Time) Command {
	return StartHolderDone{Err: err}
}

// StopContainer stops a container of the pod at once and waits for its end.
type StopContainer struct {
	Sandbox   id.Sandbox
	Container id.Container
	due
}

func (e StopContainer) Key() string      { return "stop container " + string(e.Container) }
func (e StopContainer) Resource() string { return string(e.Container) }
func (e StopContainer) Failed(err error, at time.Time) Command {
	return StopContainerDone{Container: e.Container, Err: err, At: at}
}

// RemoveContainer removes a container of the pod.
type RemoveContainer struct {
	Container id.Container
	due
}

func (e RemoveContainer) Key() string      { return "remove container " + string(e.Container) }
func (e RemoveContainer) Resource() string { return string(e.Container) }
func (e RemoveContainer) Failed(err error, at time.Time) Command {
	return RemoveContainerDone{Container: e.Container, Err: err, At: at}
}

// StopHolder kills the holder and makes the runtime and the monitor forget it.
type StopHolder struct {
	Pod Pod
	due
}

func (StopHolder) Key() string      { return "stop holder" }
func (StopHolder) Resource() string { return onHolder }
func (StopHolder) Failed(err error, at time.Time) Command {
	return StopHolderDone{Err: err, At: at}
}

// DetachNetwork undoes AttachNetwork: it unmaps ports of the node and executes CNI DEL.
type DetachNetwork struct {
	Pod Pod
	due
}

func (DetachNetwork) Key() string      { return "detach network" }
func (DetachNetwork) Resource() string { return onNetwork }
func (DetachNetwork) Failed(err error, at time.Time) Command {
	return DetachNetworkDone{Err: err, At: at}
}

// ReleaseSandbox undoes PrepareSandbox.
type ReleaseSandbox struct {
	Pod Pod
	due
}

func (ReleaseSandbox) Key() string      { return "release" }
func (ReleaseSandbox) Resource() string { return onSandbox }
func (ReleaseSandbox) Failed(err error, at time.Time) Command {
	return ReleaseSandboxDone{Err: err, At: at}
}

// Resources that several effects share, apart from containers.
const (
	onSandbox = "sandbox"
	onNetwork = "network"
	onHolder  = "holder"
)
