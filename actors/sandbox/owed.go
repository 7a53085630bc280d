package sandbox

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

// Pod is what every effect on a sandbox's own resources needs to know.
type Pod struct {
	ID      id.Sandbox
	Handler string
	// Config is the CRI's PodSandboxConfig, protobuf-encoded.
	Config                 []byte
	HostNetwork, SharedPID bool
}

// PrepareSandbox makes directories, files and namespaces.
type PrepareSandbox struct{ Pod Pod }

// AttachNetwork executes CNI ADD.
type AttachNetwork struct{ Pod Pod }

// StartHolder starts the process that holds the shared PID namespace.
type StartHolder struct{ Pod Pod }

// StopContainer stops a container of the pod at once and waits for its end.
type StopContainer struct {
	Sandbox   id.Sandbox
	Container id.Container
	After     time.Time
}

// RemoveContainer removes a container of the pod.
type RemoveContainer struct {
	Container id.Container
	After     time.Time
}

// StopHolder kills the holder and clears what is left of it.
type StopHolder struct {
	Pod   Pod
	After time.Time
}

// DetachNetwork executes CNI DEL.
type DetachNetwork struct {
	Pod   Pod
	After time.Time
}

// ReleaseSandbox undoes PrepareSandbox.
type ReleaseSandbox struct {
	Pod   Pod
	After time.Time
}

func (PrepareSandbox) Key() string    { return "prepare" }
func (AttachNetwork) Key() string     { return "attach network" }
func (StartHolder) Key() string       { return "start holder" }
func (e StopContainer) Key() string   { return "stop container " + string(e.Container) }
func (e RemoveContainer) Key() string { return "remove container " + string(e.Container) }
func (StopHolder) Key() string        { return "stop holder" }
func (DetachNetwork) Key() string     { return "detach network" }
func (ReleaseSandbox) Key() string    { return "release" }

func (PrepareSandbox) Resource() string    { return "sandbox" }
func (AttachNetwork) Resource() string     { return "network" }
func (StartHolder) Resource() string       { return "holder" }
func (e StopContainer) Resource() string   { return string(e.Container) }
func (e RemoveContainer) Resource() string { return string(e.Container) }
func (StopHolder) Resource() string        { return "holder" }
func (DetachNetwork) Resource() string     { return "network" }
func (ReleaseSandbox) Resource() string    { return "sandbox" }

func (PrepareSandbox) NotBefore() time.Time    { return time.Time{} }
func (AttachNetwork) NotBefore() time.Time     { return time.Time{} }
func (StartHolder) NotBefore() time.Time       { return time.Time{} }
func (e StopContainer) NotBefore() time.Time   { return e.After }
func (e RemoveContainer) NotBefore() time.Time { return e.After }
func (e StopHolder) NotBefore() time.Time      { return e.After }
func (e DetachNetwork) NotBefore() time.Time   { return e.After }
func (e ReleaseSandbox) NotBefore() time.Time  { return e.After }

func (PrepareSandbox) Failed(err error, _ time.Time) Command { return PrepareSandboxDone{Err: err} }
func (AttachNetwork) Failed(err error, _ time.Time) Command  { return AttachNetworkDone{Err: err} }
func (StartHolder) Failed(err error, _ time.Time) Command    { return StartHolderDone{Err: err} }
func (e StopContainer) Failed(err error, at time.Time) Command {
	return StopContainerDone{Container: e.Container, Err: err, At: at}
}
func (e RemoveContainer) Failed(err error, at time.Time) Command {
	return RemoveContainerDone{Container: e.Container, Err: err, At: at}
}
func (StopHolder) Failed(err error, at time.Time) Command { return StopHolderDone{Err: err, At: at} }
func (DetachNetwork) Failed(err error, at time.Time) Command {
	return DetachNetworkDone{Err: err, At: at}
}
func (ReleaseSandbox) Failed(err error, at time.Time) Command {
	return ReleaseSandboxDone{Err: err, At: at}
}

func (PrepareSandbox) effect()  {}
func (AttachNetwork) effect()   {}
func (StartHolder) effect()     {}
func (StopContainer) effect()   {}
func (RemoveContainer) effect() {}
func (StopHolder) effect()      {}
func (DetachNetwork) effect()   {}
func (ReleaseSandbox) effect()  {}

// Owed names the effects that the state still calls for, in a fixed order.
func Owed(s State) []Effect {
	if s.undoing() {
		return owedUndoing(s)
	}
	if s.Phase != Creating {
		return nil
	}
	if !s.Prepared {
		return []Effect{PrepareSandbox{s.pod()}}
	}
	var owed []Effect
	if s.Network.Begun && !s.Network.Attached {
		owed = append(owed, AttachNetwork{s.pod()})
	}
	if s.Holder.Begun && s.Holder.PID == 0 {
		owed = append(owed, StartHolder{s.pod()})
	}
	return owed
}

// Announced reports whether the state says already that an effect comes once the one
// under way is done, and owes the undoing of both. Then the effect need not wait until
// the outcome of the other is durable.
func Announced(s State, e Effect) bool {
	switch e.(type) {
	case AttachNetwork, StartHolder:
		return s.Phase == Creating
	default: // What the others need is not known before.
	}
	return false
}

// owedUndoing takes the pod down from the outside in: containers, then the
// holder and the network (which need each other's absence for nothing), then
// what both of them stood on.
func owedUndoing(s State) []Effect {
	var owed []Effect
	for _, c := range s.ContainerIDs() {
		switch {
		case !s.Containers[c]:
			e := StopContainer{Sandbox: s.ID, Container: c}
			e.After = s.Retries[e.Key()].At
			owed = append(owed, e)
		case s.Phase == Removing:
			e := RemoveContainer{Container: c}
			e.After = s.Retries[e.Key()].At
			owed = append(owed, e)
		}
	}
	if !s.containersStopped() {
		return owed
	}
	if s.holderOwed() {
		e := StopHolder{Pod: s.pod()}
		e.After = s.Retries[e.Key()].At
		owed = append(owed, e)
	}
	if s.networkOwed() {
		e := DetachNetwork{Pod: s.pod()}
		e.After = s.Retries[e.Key()].At
		owed = append(owed, e)
	}
	releasing := s.Phase == Unwinding || s.Phase == Removing && len(s.Containers) == 0
	if releasing && !s.Released && !s.holderOwed() && s.networkTried() {
		e := ReleaseSandbox{Pod: s.pod()}
		e.After = s.Retries[e.Key()].At
		owed = append(owed, e)
	}
	return owed
}

func (s State) pod() Pod {
	return Pod{ID: s.ID, Handler: s.Handler, Config: s.Config, HostNetwork: s.HostNetwork, SharedPID: s.SharedPID}
}
