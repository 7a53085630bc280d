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
		message[image.Event]("image.ImagePulled.v1",
			func(e image.ImagePulled) *pb.ImagePulled {
				return &pb.ImagePulled{Pull: string(e.Pull), ImageId: e.ImageID, Digest: e.Digest, Bytes: e.Bytes}
			},
			func(m *pb.ImagePulled) image.ImagePulled {
				return image.ImagePulled{Pull: id.Pull(m.GetPull()), ImageID: m.GetImageId(), Digest: m.GetDigest(), Bytes: m.GetBytes()}
			}),
		message[image.Event]("image.PullFailed.v1",
			func(e image.PullFailed) *pb.PullFailed {
				return &pb.PullFailed{Pull: string(e.Pull), Fault: faultTo(e.Fault)}
			},
			func(m *pb.PullFailed) image.PullFailed {
				return image.PullFailed{Pull: id.Pull(m.GetPull()), Fault: faultFrom(m.GetFault())}
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
