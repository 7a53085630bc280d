package container

import (
	"maps"
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Exec is a command that runs beside the container's own process.
type Exec struct {
	Command []string
	Timeout time.Duration
}

func (s State) execIDs() []id.Exec { return slices.Sorted(maps.Keys(s.Execs)) }

// decideExec takes commands from the creation on, as other runtimes do: the container's init
// holds what a command joins.
func decideExec(s State, c RunExec) ([]Event, error) {
	switch s.Phase {
	case Created, Starting, Running:
		if !s.Run.ExitSeen {
			return []Event{ExecRequested(c)}, nil
		}
	case Absent, Creating, Unwinding, Failed, Exited, Removing, Removed:
	}
	return nil, fault.New(fault.Precondition, "exec in container", string(s.ID), "it is %s, not running", s.Phase)
}

func decideExecuted(s State, c ExecuteDone) []Event {
	if _, underWay := s.Execs[c.Exec]; !underWay {
		return nil
	}
	if c.Err != nil {
		return []Event{ExecFailed{c.Exec, failure(s, "exec in container", c.Err)}}
	}
	return []Event{ExecEnded{Exec: c.Exec, Code: c.Code, TimedOut: c.TimedOut}}
}

// execsLost ends every command that is still under way: nothing is left of the
// container.
func execsLost(s State) []Event {
	var events []Event
	for _, x := range s.execIDs() {
		events = append(events, ExecFailed{x, *fault.New(fault.Interrupted, "exec in container", string(s.ID), "the container was removed")})
	}
	return events
}

func (s *State) execRequested(e ExecRequested) {
	if s.Execs == nil {
		s.Execs = map[id.Exec]Exec{}
	}
	s.Execs[e.Exec] = Exec{Command: e.Command, Timeout: e.Timeout}
}

func owedExecs(s State) []Effect {
	var owed []Effect
	for _, x := range s.execIDs() {
		owed = append(owed, Execute{Spec: s.spec(), Exec: x, Command: s.Execs[x].Command, Timeout: s.Execs[x].Timeout})
	}
	return owed
}
