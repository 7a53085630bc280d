package image

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Command is a request about an image reference, or the outcome of an effect.
//
//sumtype:decl
type Command interface{ command() }

// RequestPull asks for the reference to be pulled (PullImage). A pull with the same
// id that is under way is joined.
type RequestPull struct {
	Ref           string
	Pull          id.Pull
	SandboxConfig []byte
	At            time.Time
}

// Remove asks for the reference to be removed from the store (RemoveImage).
type Remove struct{ Ref string }

// FetchImageDone is the outcome of FetchImage.
type FetchImageDone struct {
	Pull    id.Pull
	ImageID string
	Digest  string
	Bytes   uint64
	Err     error
}

// DeleteImageDone is the outcome of DeleteImage.
type DeleteImageDone struct{ Err error }

func (RequestPull) command()     {}
func (Remove) command()          {}
func (FetchImageDone) command()  {}
func (DeleteImageDone) command() {}
