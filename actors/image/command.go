package image

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Command is a request about an image reference, or the outcome of an effect.
//
//sumtype:decl
type Command interface{ command() }

// RequestPull asks for the reference to be pulled (PullImage). It joins a pull with
// the same id that is under way.
type RequestPull struct {
	Ref           string
	Pull          id.Pull
	SandboxConfig []byte
	At            time.Time
}

// RequestLoad asks for an archive's images to be put into the store (`stele image
// load`). Ref is the archive, TRANSPORT:PATH.
type RequestLoad struct {
	Ref  string
	Load id.Load
	// Name is the name to give to the archive's only image; empty for the names in the
	// archive.
	Name string
	At   time.Time
}

// Remove asks for the reference to be removed from the store (RemoveImage).
type Remove struct{ Ref string }

// NoteResolved is the puller's report of what the reference stands for.
type NoteResolved struct {
	Pull id.Pull
	Resolved
}

// NoteLayer is the puller's report that it has a layer.
type NoteLayer struct {
	Pull  id.Pull
	Layer Layer
}

// FetchImageDone is the outcome of FetchImage.
type FetchImageDone struct {
	Pull    id.Pull
	ImageID string
	Digest  string
	// Bytes is how much was transferred, even if there is an error.
	Bytes uint64
	Err   error
}

// LoadImagesDone is the outcome of LoadImages. Images are those that were loaded,
// even if there is an error.
type LoadImagesDone struct {
	Load   id.Load
	Images []Loaded
	Err    error
}

// DeleteImageDone is the outcome of DeleteImage.
type DeleteImageDone struct{ Err error }

func (RequestPull) command()     {}
func (RequestLoad) command()     {}
func (Remove) command()          {}
func (NoteResolved) command()    {}
func (NoteLayer) command()       {}
func (FetchImageDone) command()  {}
func (LoadImagesDone) command()  {}
func (DeleteImageDone) command() {}
