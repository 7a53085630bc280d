package image

import "github.com/stele-runtime/stele/actors/id"

// PullAnswer is the answer to RequestPull; the image is in State.Last then.
func PullAnswer(p id.Pull) func(State, Event) (done bool, err error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ImagePulled:
			return e.Pull == p, nil
		case PullFailed:
			if e.Pull == p {
				return true, e.Fault.Err()
			}
		default: // Every other event leaves the caller waiting.
		}
		return false, nil
	}
}

// LoadAnswer is the answer to RequestLoad; the images are in State.LastLoad then.
func LoadAnswer(l id.Load) func(State, Event) (done bool, err error) {
	return func(_ State, e Event) (bool, error) {
		switch e := e.(type) {
		case ImagesLoaded:
			return e.Load == l, nil
		case LoadFailed:
			if e.Load == l {
				return true, e.Fault.Err()
			}
		default: // Every other event leaves the caller waiting.
		}
		return false, nil
	}
}

// RemoveAnswer is the answer to Remove.
func RemoveAnswer(_ State, e Event) (done bool, err error) {
	switch e := e.(type) {
	case ImageRemoved:
		return true, nil
	case RemoveFailed:
		return true, e.Fault.Err()
	default: // Every other event leaves the caller waiting.
	}
	return false, nil
}
