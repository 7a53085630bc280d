package sandbox

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

// decideRun joins a request under way and repeats the answer to a completed one,
// because the kubelet times out and asks again. It refuses a different configuration
// under the same name.
func decideRun(s State, c Run) ([]Event, error) {
	if s.Phase == Absent {
		return []Event{SandboxRequested(c)}, nil
	}
	if s.ConfigDigest != c.ConfigDigest || s.Handler != c.Handler {
		return nil, fault.New(fault.Exists, "run pod sandbox", string(s.ID),
			"metadata: name %q in namespace %q, attempt %d, belongs to sandbox %s, which has a different configuration",
			c.Name.Name, c.Name.Namespace, c.Name.Attempt, s.ID)
	}
	if s.Phase != Creating && s.Phase != Ready && s.Phase != Unwinding {
		return nil, fault.New(fault.Exists, "run pod sandbox", string(s.ID),
			"metadata: name %q in namespace %q, attempt %d, belongs to sandbox %s, which is %s",
			c.Name.Name, c.Name.Namespace, c.Name.Attempt, s.ID, s.Phase)
	}
	return nil, nil
}

func decidePrepared(s State, c PrepareSandboxDone) []Event {
	if c.Err != nil {
		return []Event{SandboxPrepareFailed{failure(s, "prepare sandbox", c.Err)}}
	}
	return []Event{SandboxPrepared{}}
}

func requested(e SandboxRequested) State {
	return State{
		ID: e.ID, Phase: Creating, Name: e.Name, Handler: e.Handler,
		Config: e.Config, ConfigDigest: e.ConfigDigest, CreatedAt: e.At,
		HostNetwork: e.HostNetwork, SharedPID: e.SharedPID,
		Network: Network{Begun: !e.HostNetwork}, Holder: Holder{Begun: e.SharedPID},
	}
}

func (s *State) createFailed(f fault.Fault) {
	if s.Phase == Creating {
		s.Phase, s.Failure = Unwinding, f
	}
}

// undoingFailed makes an effect owed again, and gives the name of a failed creation back.
func (s *State) undoingFailed(f Effect, retryAt time.Time) {
	s.Retries.Failed(f.Key(), retryAt)
	s.UndoFailed = s.UndoFailed || s.Phase == Unwinding
}

func owedCreation(s State) []Effect {
	if !s.Prepared {
		return []Effect{PrepareSandbox{Pod: s.pod()}}
	}
	return append(owedAttach(s), owedStartHolder(s)...)
}
