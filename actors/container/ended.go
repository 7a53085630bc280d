package container

// EndsWith reports whether a stream with this last event has ended (Ended), whatever came before:
// so that what is gone need not be read. What Decide leads to ends with nothing else.
func EndsWith(last Event) bool {
	switch last.(type) {
	case ContainerFailed, ContainerRemoved:
		return true
	default:
		return false
	}
}
