package image

import "github.com/stele-runtime/stele/actors/id"

// Evolve returns the state after a fact. It never fails.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case PullRequested:
		s.Ref = e.Ref
		if s.Pulls == nil {
			s.Pulls = map[id.Pull]Pull{}
		}
		s.Pulls[e.Pull] = Pull{RequestedAt: e.At, SandboxConfig: e.SandboxConfig}
	case ImagePulled:
		delete(s.Pulls, e.Pull)
		s.Last = Result{Pull: e.Pull, ImageID: e.ImageID, Digest: e.Digest, Bytes: e.Bytes}
	case PullFailed:
		delete(s.Pulls, e.Pull)
		s.Last = Result{Pull: e.Pull, Fault: e.Fault}
	case RemoveRequested:
		s.Ref, s.Removing = e.Ref, true
	case ImageRemoved, RemoveFailed:
		s.Removing = false
	}
	return s
}
