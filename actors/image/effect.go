package image

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Effect is work that a state calls for.
//
//sumtype:decl
type Effect interface {
	// Key tells an effect from all others that the same state can owe.
	Key() string
	// Resource names what the effect works on; effects on one resource never
	// run at the same time.
	Resource() string
	// NotBefore is when the effect may be issued; the zero time means now.
	NotBefore() time.Time
	// Failed is the effect's outcome when it failed, or panicked, at a time. With
	// no error it is that of a success with nothing to report.
	Failed(err error, at time.Time) Command
	effect()
}

// immediate is embedded in every effect: the seal, and that none of them waits.
// What failed is not tried again by itself.
type immediate struct{}

func (immediate) NotBefore() time.Time { return time.Time{} }
func (immediate) effect()              {}

// FetchImage pulls the reference into the store.
type FetchImage struct {
	Ref           string
	Pull          id.Pull
	SandboxConfig []byte
	immediate
}

func (e FetchImage) Key() string      { return "fetch " + string(e.Pull) }
func (e FetchImage) Resource() string { return e.Key() }
func (e FetchImage) Failed(err error, _ time.Time) Command {
	return FetchImageDone{Pull: e.Pull, Err: err}
}

// LoadImages puts the images of an archive into the store. It can be repeated: what
// is there is not loaded twice.
type LoadImages struct {
	Ref, Name string
	Load      id.Load
	immediate
}

func (e LoadImages) Key() string      { return "load " + string(e.Load) }
func (e LoadImages) Resource() string { return e.Key() }
func (e LoadImages) Failed(err error, _ time.Time) Command {
	return LoadImagesDone{Load: e.Load, Err: err}
}

// DeleteImage removes the reference from the store.
type DeleteImage struct {
	Ref string
	immediate
}

func (DeleteImage) Key() string                           { return "delete" }
func (e DeleteImage) Resource() string                    { return e.Key() }
func (DeleteImage) Failed(err error, _ time.Time) Command { return DeleteImageDone{Err: err} }
