package image

import (
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// Event is a fact about an image reference.
//
//sumtype:decl
type Event interface{ event() }

// PullRequested: the machine accepted the kubelet's PullImage. The pull is owed.
type PullRequested struct {
	Ref           string
	Pull          id.Pull
	SandboxConfig []byte
	At            time.Time
}

// ImageResolved: the registry said what the reference stands for. If a retry within
// the pull gets another answer, there is another event.
type ImageResolved struct {
	Pull id.Pull
	Resolved
}

// LayerFetched: the puller has a layer in the store, or on the disk until the layers
// below it are in the store.
type LayerFetched struct {
	Pull  id.Pull
	Layer Layer
}

// ImagePulled: the puller unpacked all layers; the store has the image under the
// reference.
type ImagePulled struct {
	Pull    id.Pull
	ImageID string
	Digest  string
	Bytes   uint64
}

// PullFailed: the puller ended without an image, or its daemon ended first. Complete
// layers are kept for a while, for the next attempt.
type PullFailed struct {
	Pull  id.Pull
	Fault fault.Fault
	// Bytes is how much was transferred.
	Bytes uint64
}

// LoadRequested: the machine accepted a `stele image load`. The load is owed.
type LoadRequested struct {
	Ref  string
	Load id.Load
	Name string
	At   time.Time
}

// ImagesLoaded: the store has the archive's images.
type ImagesLoaded struct {
	Load   id.Load
	Images []Loaded
}

// LoadFailed: the store, or the trust policy, refused an image of the archive. Images
// are those loaded before it; they stay.
type LoadFailed struct {
	Load   id.Load
	Images []Loaded
	Fault  fault.Fault
}

// RemoveRequested: the machine accepted a RemoveImage. The removal is owed.
type RemoveRequested struct{ Ref string }

// ImageRemoved: the store no longer knows the reference.
type ImageRemoved struct{}

// RemoveFailed: the store kept it. The removal is no longer owed.
type RemoveFailed struct{ Fault fault.Fault }

func (PullRequested) event()   {}
func (ImageResolved) event()   {}
func (LayerFetched) event()    {}
func (ImagePulled) event()     {}
func (PullFailed) event()      {}
func (LoadRequested) event()   {}
func (ImagesLoaded) event()    {}
func (LoadFailed) event()      {}
func (RemoveRequested) event() {}
func (ImageRemoved) event()    {}
func (RemoveFailed) event()    {}
