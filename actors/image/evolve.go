package image

import "github.com/stele-runtime/stele/actors/id"

// Evolve returns the state after a fact. It never fails.
func Evolve(s State, e Event) State {
	s = s.copied()
	switch e := e.(type) {
	case PullRequested:
		s = s.begin(e.Ref)
		if s.Pulls == nil {
			s.Pulls = map[id.Pull]Pull{}
		}
		s.Pulls[e.Pull] = Pull{RequestedAt: e.At, SandboxConfig: e.SandboxConfig}
	case ImageResolved:
		if p, underWay := s.Pulls[e.Pull]; underWay {
			p.Resolved = e.Resolved
			s.Pulls[e.Pull] = p
		}
	case LayerFetched:
		if p, underWay := s.Pulls[e.Pull]; underWay {
			p.Fetched++
			p.Bytes += e.Layer.Bytes
			s.Pulls[e.Pull] = p
		}
	case ImagePulled:
		delete(s.Pulls, e.Pull)
		s.Last = Result{Pull: e.Pull, ImageID: e.ImageID, Digest: e.Digest, Bytes: e.Bytes}
	case PullFailed:
		delete(s.Pulls, e.Pull)
		s.Last = Result{Pull: e.Pull, Bytes: e.Bytes, Fault: e.Fault}
	case LoadRequested:
		s = s.begin(e.Ref)
		if s.Loads == nil {
			s.Loads = map[id.Load]Load{}
		}
		s.Loads[e.Load] = Load{Name: e.Name, RequestedAt: e.At}
	case ImagesLoaded:
		delete(s.Loads, e.Load)
		s.LastLoad = LoadResult{Load: e.Load, Images: e.Images}
	case LoadFailed:
		delete(s.Loads, e.Load)
		s.LastLoad = LoadResult(e)
	case RemoveRequested:
		s = s.begin(e.Ref)
		s.Removing = true
	case ImageRemoved, RemoveFailed:
		s.Removing = false
	}
	return s
}
