package container

// Salvage returns what a command does to a container whose stream cannot be used: its last
// good state is known, and not what happened since. The events are for memory alone. Ends
// reports whether the container goes now, by the effects that need only its id and handler:
// nothing that may run must be forgotten. Other commands are refused (not known).
func Salvage(s State, c Command) (events []Event, ends, known bool) {
	switch c.(type) {
	case Stop, Remove:
		if s.final() {
			return nil, true, true
		}
		events = []Event{RemoveRequested{}}
		// The damage may hide no more than the last milestone.
		if e := milestone(Evolve(s, events[0])); e != nil {
			events = append(events, e)
		}
		return events, true, true
	case RecordExit, ReportLoss, ReportBlocked, NodeRebooted, CallersLost, WithdrawStop:
		return nil, false, true
	default:
		return nil, false, false
	}
}
