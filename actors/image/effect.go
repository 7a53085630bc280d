package image

import (
	"time"

	"github.com/stele-runtime/stele/actors/id"
)

// Effect is work that a state calls for.
//
//sumtype:decl
type Effect interface {
	// Key identifies the effect among all that one state can owe.
	Key() string
	// Resource names what the effect works on. Effects on one resource never overlap.
	Resource() string
	// NotBefore is the earliest time to issue the effect; zero means now.
	NotBefore() time.Time
	// Failed returns the outcome of the effect if it failed or panicked; with a nil
	// error, that of a success with nothing more to report.
	Failed(err error, at time.Time) Command
	effect()
}

// immediate is embedded in every effect. It seals the interface; no effect waits,
// because none is retried.
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

// LoadImages puts the images of an archive into the store. It can be repeated: an
// image that is there is not loaded again.
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
