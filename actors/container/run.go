package container

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

// Run is how the container's program was started and how it ended.
type Run struct {
	// RequestedAt is when StartContainer was accepted, StartedAt when the program
	// was started.
	RequestedAt, StartedAt time.Time
	// ExitSeen: the init ended. In Starting that alone doesn't end the phase:
	// the outcome of the start says whether it had succeeded.
	ExitSeen bool `json:",omitempty"`
	Exit     Exit
}

// Exit is how a container ended.
type Exit struct {
	// Code is what the kernel reported: the exit code, or 128 and the signal.
	Code int
	// Signal is the signal that ended it, 0 if none did.
	Signal int `json:",omitempty"`
	// OOMKilled: the kernel's OOM killer ended a process of the container.
	OOMKilled bool      `json:",omitempty"`
	At        time.Time // wall time of the exit
	// Unknown is why nobody can know how it ended; empty if the code is real.
	Unknown string `json:",omitempty"`
	// Note is what else is known of the end, such as that the terminal had hung up.
	Note string `json:",omitempty"`
	// MemoryPeak is the most memory that the container ever used, and MemoryLimit what it
	// might use at its end, in bytes; 0 if unknown, or if there was no limit.
	MemoryPeak  uint64 `json:",omitempty"`
	MemoryLimit uint64 `json:",omitempty"`
}

// startErrorCode is the exit code of a container whose program could not be
// started: 128, as other runtimes have it. It is no guess about a process: there was
// none.
const startErrorCode = 128

// unknownCode is the CRI's exit_code when nobody can know the real one. Unlike 0 or
// 255, no process can have it.
const unknownCode = -1

// Unknown is the exit of a container whose real exit nobody saw.
func Unknown(reason string, at time.Time) Exit {
	return Exit{Code: unknownCode, At: at, Unknown: reason}
}

// decideStart takes a second start for a repetition of the first, whose answer may be
// lost: the program was started once, and the answer is the same as then, also after it
// has ended.
func decideStart(s State, c Start) ([]Event, error) {
	switch s.Phase {
	case Created:
		if len(s.Stopping.Requests) > 0 || s.Stopping.Killing {
			return nil, fault.New(fault.Precondition, "start container", string(s.ID), "it is being stopped")
		}
		return []Event{StartRequested(c)}, nil
	case Starting, Running:
		return nil, nil
	case Exited:
		if !s.Run.RequestedAt.IsZero() {
			return nil, nil
		}
	case Absent, Creating, Unwinding, Failed, Removing, Removed:
	}
	return nil, fault.New(fault.Precondition, "start container", string(s.ID), "it is %s, not created", s.Phase)
}

func decideStarted(s State, c StartRuntimeDone) []Event {
	if c.Err != nil {
		return []Event{ContainerStartFailed{failure(s, "start container", c.Err), c.At}}
	}
	at := c.At
	// The exit can be reported first, and its time was read by another process.
	if s.Run.ExitSeen && s.Run.Exit.At.Before(at) {
		at = s.Run.Exit.At
	}
	return []Event{ContainerStarted{at}}
}

func decideExit(s State, c RecordExit) []Event {
	if s.Run.ExitSeen || s.final() || s.Phase == Absent || s.isOther(c.Process) {
		return nil
	}
	return []Event{s.exitOf(c.Exit)}
}

// exitOf returns the event of an exit. It is never before the start, which the daemon
// notices a moment after it.
func (s State) exitOf(e Exit) ContainerExited {
	if e.At.Before(s.Run.StartedAt) {
		e.At = s.Run.StartedAt
	}
	return ContainerExited{e}
}

// isOther reports whether p is known not to be the container's init.
func (s State) isOther(p Process) bool {
	init := s.Creation.Process
	return init.PID != 0 && p.PID != 0 && (p.PID != init.PID || p.StartTime != init.StartTime)
}

func (s *State) started(e ContainerStarted) {
	s.Run.StartedAt = e.At
	if s.Phase == Starting {
		s.Phase = Running
		if s.Run.ExitSeen {
			s.Phase = Exited
		}
	}
}

func (s *State) startFailed(e ContainerStartFailed) {
	s.Failure, s.Stopping.Killing = e.Fault, true
	if s.Phase == Starting {
		s.Phase = Exited
	}
	if !s.Run.ExitSeen {
		s.Run.Exit = Exit{Code: startErrorCode, At: e.At}
	}
}

func (s *State) exited(e ContainerExited) {
	s.Run.ExitSeen = true
	// A failed start has already recorded how the container ended.
	if s.Run.Exit.At.IsZero() {
		s.Run.Exit = e.Exit
	}
	if s.Phase == Created || s.Phase == Running {
		s.Phase = Exited
	}
}

func owedStart(s State) []Effect {
	return []Effect{StartRuntime{Spec: s.spec(), Asked: s.Run.RequestedAt}}
}
