package sandbox

// Salvage returns what a command does to a sandbox whose stream cannot be used: its last
// good state is known, and not what happened since. The events are for memory alone. Ends
// reports whether the pod goes now, by the effects that need only its id and handler:
// nothing that may run must be forgotten. Other commands are refused (not known).
func Salvage(s State, c Command) (events []Event, ends, known bool) {
	switch c := c.(type) {
	case Stop, Remove:
		events, err := Decide(s, c)
		return events, true, err == nil
	case AdoptContainer:
		if s.Containers.Has(c.Container) || s.final() {
			return nil, false, true
		}
		return []Event{ContainerAdded(c)}, false, true
	case ForgetContainer:
		events, err := Decide(s, c)
		return events, false, err == nil
	case HolderExited, NodeRebooted:
		return nil, false, true
	default:
		return nil, false, false
	}
}
