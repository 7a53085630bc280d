package codec

import (
	"sync"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// EncodeImage returns an image reference's event as the log stores it.
func EncodeImage(e image.Event) (Encoded, error) { return imageTable().encode(e) }

// DecodeImage returns an image reference's event from what the log stored.
// Errors: *UnknownTypeError, *PayloadError.
func DecodeImage(name string, schema uint32, payload []byte) (image.Event, error) {
	return imageTable().decode(name, schema, payload)
}

var imageTable = sync.OnceValue(func() table[image.Event] {
	return newTable(
		message[image.Event]("image.PullRequested.v1",
			func(e image.PullRequested) *pb.PullRequested {
				return &pb.PullRequested{Ref: e.Ref, Pull: string(e.Pull), SandboxConfig: e.SandboxConfig, At: stamp(e.At)}
			},
			func(m *pb.PullRequested) image.PullRequested {
				return image.PullRequested{Ref: m.GetRef(), Pull: id.Pull(m.GetPull()), SandboxConfig: m.GetSandboxConfig(), At: at(m.GetAt())}
			}),
		message[image.Event]("image.ImageResolved.v1",
			func(e image.ImageResolved) *pb.ImageResolved {
				return &pb.ImageResolved{
					Pull: string(e.Pull), Name: e.Name, Digest: e.Digest, Manifest: e.Manifest,
					Layers: int64(e.Layers), Bytes: e.Bytes,
				}
			},
			func(m *pb.ImageResolved) image.ImageResolved {
				return image.ImageResolved{Pull: id.Pull(m.GetPull()), Resolved: image.Resolved{
					Name: m.GetName(), Digest: m.GetDigest(), Manifest: m.GetManifest(),
					Layers: int(m.GetLayers()), Bytes: m.GetBytes(),
				}}
			}),
		message[image.Event]("image.LayerFetched.v1",
			func(e image.LayerFetched) *pb.LayerFetched {
				return &pb.LayerFetched{Pull: string(e.Pull), Digest: e.Layer.Digest, Bytes: e.Layer.Bytes, Present: e.Layer.Present}
			},
			func(m *pb.LayerFetched) image.LayerFetched {
				return image.LayerFetched{Pull: id.Pull(m.GetPull()), Layer: image.Layer{
					Digest: m.GetDigest(), Bytes: m.GetBytes(), Present: m.GetPresent(),
				}}
			}),
		message[image.Event]("image.ImagePulled.v1",
			func(e image.ImagePulled) *pb.ImagePulled {
				return &pb.ImagePulled{Pull: string(e.Pull), ImageId: e.ImageID, Digest: e.Digest, Bytes: e.Bytes}
			},
			func(m *pb.ImagePulled) image.ImagePulled {
				return image.ImagePulled{Pull: id.Pull(m.GetPull()), ImageID: m.GetImageId(), Digest: m.GetDigest(), Bytes: m.GetBytes()}
			}),
		message[image.Event]("image.PullFailed.v1",
			func(e image.PullFailed) *pb.PullFailed {
				return &pb.PullFailed{Pull: string(e.Pull), Fault: faultTo(e.Fault), Bytes: e.Bytes}
			},
			func(m *pb.PullFailed) image.PullFailed {
				return image.PullFailed{Pull: id.Pull(m.GetPull()), Fault: faultFrom(m.GetFault()), Bytes: m.GetBytes()}
			}),
		message[image.Event]("image.LoadRequested.v1",
			func(e image.LoadRequested) *pb.LoadRequested {
				return &pb.LoadRequested{Ref: e.Ref, Load: string(e.Load), Name: e.Name, At: stamp(e.At)}
			},
			func(m *pb.LoadRequested) image.LoadRequested {
				return image.LoadRequested{Ref: m.GetRef(), Load: id.Load(m.GetLoad()), Name: m.GetName(), At: at(m.GetAt())}
			}),
		message[image.Event]("image.ImagesLoaded.v1",
			func(e image.ImagesLoaded) *pb.ImagesLoaded {
				return &pb.ImagesLoaded{Load: string(e.Load), Images: loadedTo(e.Images)}
			},
			func(m *pb.ImagesLoaded) image.ImagesLoaded {
				return image.ImagesLoaded{Load: id.Load(m.GetLoad()), Images: loadedFrom(m.GetImages())}
			}),
		message[image.Event]("image.LoadFailed.v1",
			func(e image.LoadFailed) *pb.LoadFailed {
				return &pb.LoadFailed{Load: string(e.Load), Images: loadedTo(e.Images), Fault: faultTo(e.Fault)}
			},
			func(m *pb.LoadFailed) image.LoadFailed {
				return image.LoadFailed{Load: id.Load(m.GetLoad()), Images: loadedFrom(m.GetImages()), Fault: faultFrom(m.GetFault())}
			}),
		message[image.Event]("image.RemoveRequested.v1",
			func(e image.RemoveRequested) *pb.ImageRemoveRequested { return &pb.ImageRemoveRequested{Ref: e.Ref} },
			func(m *pb.ImageRemoveRequested) image.RemoveRequested {
				return image.RemoveRequested{Ref: m.GetRef()}
			}),
		plain[image.Event, image.ImageRemoved, pb.ImageRemoved]("image.ImageRemoved.v1"),
		failed[image.Event, image.RemoveFailed]("image.RemoveFailed.v1",
			func(f *pb.Fault) *pb.ImageRemoveFailed { return &pb.ImageRemoveFailed{Fault: f} }),
	)
})

func loadedTo(images []image.Loaded) []*pb.LoadedImage {
	var all []*pb.LoadedImage
	for _, i := range images {
		all = append(all, &pb.LoadedImage{Name: i.Name, ImageId: i.ImageID, Digest: i.Digest})
	}
	return all
}

func loadedFrom(images []*pb.LoadedImage) []image.Loaded {
	var all []image.Loaded
	for _, i := range images {
		all = append(all, image.Loaded{Name: i.GetName(), ImageID: i.GetImageId(), Digest: i.GetDigest()})
	}
	return all
}
