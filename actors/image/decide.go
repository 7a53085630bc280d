package image

import "github.com/stele-runtime/stele/actors/fault"

// Decide returns the facts that follow from a command. No events and no error mean
// that what the command asks for is already under way.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case RequestPull:
		if _, underWay := s.Pulls[c.Pull]; underWay {
			return nil, nil
		}
		return []Event{PullRequested(c)}, nil
	case RequestLoad:
		if _, underWay := s.Loads[c.Load]; underWay {
			return nil, nil
		}
		return []Event{LoadRequested(c)}, nil
	case LoadImagesDone:
		if _, underWay := s.Loads[c.Load]; !underWay {
			return nil, nil
		}
		if c.Err != nil {
			return []Event{LoadFailed{c.Load, c.Images, fault.From(c.Err, "load images", s.Ref)}}, nil
		}
		return []Event{ImagesLoaded{c.Load, c.Images}}, nil
	case Remove:
		if s.Removing {
			return nil, nil
		}
		return []Event{RemoveRequested(c)}, nil
	case NoteResolved:
		if p, underWay := s.Pulls[c.Pull]; !underWay || p.Resolved == c.Resolved {
			return nil, nil
		}
		return []Event{ImageResolved(c)}, nil
	case NoteLayer:
		if _, underWay := s.Pulls[c.Pull]; !underWay {
			return nil, nil
		}
		return []Event{LayerFetched(c)}, nil
	case FetchImageDone:
		if _, underWay := s.Pulls[c.Pull]; !underWay {
			return nil, nil
		}
		if c.Err != nil {
			return []Event{PullFailed{c.Pull, fault.From(c.Err, "pull image", s.Ref), c.Bytes}}, nil
		}
		return []Event{ImagePulled{Pull: c.Pull, ImageID: c.ImageID, Digest: c.Digest, Bytes: c.Bytes}}, nil
	case DeleteImageDone:
		if !s.Removing {
			return nil, nil
		}
		if c.Err != nil {
			return []Event{RemoveFailed{fault.From(c.Err, "remove image", s.Ref)}}, nil
		}
		return []Event{ImageRemoved{}}, nil
	}
	return nil, fault.New(fault.Internal, "decide", s.Ref, "unknown command %T", c)
}
