package container

import "github.com/stele-runtime/stele/actors/fault"

// Logs is the state of the container's log file.
type Logs struct {
	// ReopensAsked and ReopensDone count rotations of the file.
	ReopensAsked, ReopensDone uint64 `json:",omitempty"`
	// Lost is how many bytes of output the file refused.
	Lost uint64 `json:",omitempty"`
}

func decideReopen(s State) ([]Event, error) {
	if s.Phase != Running {
		return nil, fault.New(fault.Precondition, "reopen log of container", string(s.ID), "it is %s, not running", s.Phase)
	}
	return []Event{LogReopenRequested{s.Logs.ReopensAsked + 1}}, nil
}

func decideReopened(s State, c RotateLogDone) []Event {
	if c.Err != nil {
		return []Event{LogReopenFailed{c.Reopen, failure(s, "reopen log of container", c.Err)}}
	}
	return []Event{LogReopened{c.Reopen}}
}

func decideLoss(s State, c ReportLoss) []Event {
	// The monitor reports a running total, and repeats it on every new connection.
	if c.Bytes <= s.Logs.Lost || s.final() || s.Phase == Absent {
		return nil
	}
	return []Event{OutputLost(c)}
}

// reopened counts a failed reopening, too: it is not retried.
func (x *Logs) reopened(reopen uint64) { x.ReopensDone = max(x.ReopensDone, reopen) }

func owedLogs(s State) []Effect {
	if s.Logs.ReopensDone >= s.Logs.ReopensAsked || s.final() {
		return nil
	}
	return []Effect{RotateLog{Spec: s.spec(), Reopen: s.Logs.ReopensAsked}}
}
