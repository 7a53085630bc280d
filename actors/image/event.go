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

// ImagePulled: the image is in the store, under the reference.
type ImagePulled struct {
	Pull    id.Pull
	ImageID string
	Digest  string
	Bytes   uint64
}

// PullFailed: the pull ended without an image and left nothing.
type PullFailed struct {
	Pull  id.Pull
	Fault fault.Fault
}

// RemoveRequested: the reference is owed its removal.
type RemoveRequested struct{ Ref string }

// ImageRemoved: the store no longer knows the reference.
type ImageRemoved struct{}

// RemoveFailed: the store kept it.
type RemoveFailed struct{ Fault fault.Fault }

func (PullRequested) event()   {}
func (ImagePulled) event()     {}
func (PullFailed) event()      {}
func (RemoveRequested) event() {}
func (ImageRemoved) event()    {}
func (RemoveFailed) event()    {}
