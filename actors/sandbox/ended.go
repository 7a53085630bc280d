package sandbox

// EndsWith reports whether a stream with these last events has ended (Ended), whatever came
// before, so that what is gone need not be read. It may have ended although EndsWith returns
// false; known is false as well if earlier events could show that it has: detaching
// the network may still be owed.
func EndsWith(last []Event) (ended, known bool) {
	if len(last) == 0 {
		return false, false
	}
	switch last[len(last)-1].(type) {
	case SandboxFailed, SandboxRemoved:
	default:
		return false, true
	}
	for _, e := range last {
		switch e := e.(type) {
		case NetworkDetached:
			return true, true
		case SandboxRequested:
			if e.HostNetwork {
				return true, true
			}
			known = true
		default:
		}
	}
	return false, known
}
