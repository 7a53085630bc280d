package codec

import (
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// EncodeImageState returns an image reference's state as a checkpoint keeps it.
func EncodeImageState(s image.State) ([]byte, error) {
	return encodeState("image", &statepb.ImageState{
		Ref: s.Ref,
		Pulls: listOf(s.Pulls, func(p id.Pull, pull image.Pull) *statepb.ImagePull {
			r := pull.Resolved
			return &statepb.ImagePull{
				Pull: string(p), RequestedAt: stamp(pull.RequestedAt), SandboxConfig: pull.SandboxConfig,
				Resolved: &statepb.ImageResolution{Name: r.Name, Digest: r.Digest, Manifest: r.Manifest, Layers: int64(r.Layers), Bytes: r.Bytes},
				Fetched:  int64(pull.Fetched), Bytes: pull.Bytes,
			}
		}),
		Loads: listOf(s.Loads, func(l id.Load, load image.Load) *statepb.ImageLoad {
			return &statepb.ImageLoad{Load: string(l), Name: load.Name, RequestedAt: stamp(load.RequestedAt)}
		}),
		Removing: s.Removing,
		Last: &statepb.ImagePullResult{
			Pull: string(s.Last.Pull), ImageId: s.Last.ImageID, Digest: s.Last.Digest, Bytes: s.Last.Bytes, Fault: faultTo(s.Last.Fault),
		},
		LastLoad: &statepb.ImageLoadResult{Load: string(s.LastLoad.Load), Images: loadedStateTo(s.LastLoad.Images), Fault: faultTo(s.LastLoad.Fault)},
	})
}

// DecodeImageState returns an image reference's state from what a checkpoint kept.
func DecodeImageState(b []byte) (image.State, error) {
	m := &statepb.ImageState{}
	if err := decodeState("image", b, m); err != nil {
		return image.State{}, err
	}
	last, lastLoad := m.GetLast(), m.GetLastLoad()
	return image.State{
		Ref: m.GetRef(),
		Pulls: mapOf(m.GetPulls(), func(p *statepb.ImagePull) (id.Pull, image.Pull) {
			r := p.GetResolved()
			return id.Pull(p.GetPull()), image.Pull{
				RequestedAt: at(p.GetRequestedAt()), SandboxConfig: p.GetSandboxConfig(),
				Resolved: image.Resolved{Name: r.GetName(), Digest: r.GetDigest(), Manifest: r.GetManifest(), Layers: int(r.GetLayers()), Bytes: r.GetBytes()},
				Fetched:  int(p.GetFetched()), Bytes: p.GetBytes(),
			}
		}),
		Loads: mapOf(m.GetLoads(), func(l *statepb.ImageLoad) (id.Load, image.Load) {
			return id.Load(l.GetLoad()), image.Load{Name: l.GetName(), RequestedAt: at(l.GetRequestedAt())}
		}),
		Removing: m.GetRemoving(),
		Last: image.Result{
			Pull: id.Pull(last.GetPull()), ImageID: last.GetImageId(), Digest: last.GetDigest(), Bytes: last.GetBytes(), Fault: faultFrom(last.GetFault()),
		},
		LastLoad: image.LoadResult{Load: id.Load(lastLoad.GetLoad()), Images: loadedStateFrom(lastLoad.GetImages()), Fault: faultFrom(lastLoad.GetFault())},
	}, nil
}

func loadedStateTo(images []image.Loaded) []*statepb.ImageLoaded {
	var all []*statepb.ImageLoaded
	for _, i := range images {
		all = append(all, &statepb.ImageLoaded{Name: i.Name, ImageId: i.ImageID, Digest: i.Digest})
	}
	return all
}

func loadedStateFrom(images []*statepb.ImageLoaded) []image.Loaded {
	var all []image.Loaded
	for _, i := range images {
		all = append(all, image.Loaded{Name: i.GetName(), ImageID: i.GetImageId(), Digest: i.GetDigest()})
	}
	return all
}
