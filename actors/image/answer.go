package image

import "github.com/stele-runtime/stele/actors/id"

// PullAnswer answers RequestPull; the image is then in State.Last.
func PullAnswer(p id.Pull) func(State, Event) (done bool, err error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ImagePulled:
			return e.Pull == p, nil
		case PullFailed:
			if e.Pull == p {
				return true, e.Fault.Err()
			}
		default: // Other events are no answer.
		}
		return false, nil
	}
}

// LoadAnswer answers RequestLoad; the images are then in State.LastLoad.
func LoadAnswer(l id.Load) func(State, Event) (done bool, err error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ImagesLoaded:
			return e.Load == l, nil
		case LoadFailed:
			if e.Load == l {
				return true, e.Fault.Err()
			}
		default: // Other events are no answer.
		}
		return false, nil
	}
}

// RemoveAnswer answers Remove.
func RemoveAnswer(_ State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case ImageRemoved:
		return true, nil
	case RemoveFailed:
		return true, e.Fault.Err()
	default: // Other events are no answer.
	}
	return false, nil
}
