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

// PullRequested: the reference is owed a pull.
type PullRequested struct {
	Ref           string
	Pull          id.Pull
	SandboxConfig []byte
	At            time.Time
}

// ImageResolved: the registry has said what the reference stands for. A pull that
// is tried again says so again if that has changed meanwhile.
type ImageResolved struct {
	Pull id.Pull
	Resolved
}

// LayerFetched: a layer is in the store, or on the disk until those below it are.
// What was in the store before has come without a transfer.
type LayerFetched struct {
	Pull  id.Pull
	Layer Layer
}

// ImagePulled: all layers are unpacked, and the image is in the store, under the
// reference.
type ImagePulled struct {
	Pull    id.Pull
	ImageID string
	Digest  string
	Bytes   uint64
}

// PullFailed: the pull ended without an image. Layers that were whole are kept for
// a while, for the next try.
type PullFailed struct {
	Pull  id.Pull
	Fault fault.Fault
	// Bytes is how much was transferred in vain.
	Bytes uint64
}

// LoadRequested: the archive is owed its loading.
type LoadRequested struct {
	Ref  string
	Load id.Load
	Name string
	At   time.Time
}

// ImagesLoaded: the archive's images are in the store.
type ImagesLoaded struct {
	Load   id.Load
	Images []Loaded
}

// LoadFailed: an image of the archive was refused. Images are those that were
// loaded before it, and stay.
type LoadFailed struct {
	Load   id.Load
	Images []Loaded
	Fault  fault.Fault
}

// RemoveRequested: the reference is owed its removal.
type RemoveRequested struct{ Ref string }

// ImageRemoved: the store no longer knows the reference.
type ImageRemoved struct{}

// RemoveFailed: the store kept it.
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
