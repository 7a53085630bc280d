package executors

import (
	"context"
	"log/slog"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/registry"
)

// maxNews bounds how many news of a pull wait for the log. An image has fewer
// layers.
const maxNews = 4096

// news sends what becomes known during a pull to the image's actor, in order and
// without blocking the pull.
type news struct {
	pull   image.FetchImage
	pulls  *handover.Pulls
	logger *slog.Logger

	waiting chan image.Command
	ended   chan struct{}
}

// newsOf starts the news of a pull; end must be called.
func (x fetcher) newsOf(ctx context.Context, f image.FetchImage) *news {
	n := &news{pull: f, pulls: x.Pulls, logger: x.Logger, waiting: make(chan image.Command, maxNews), ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		for c := range n.waiting {
			if err := x.ImageNews(ctx, f.Ref, c); err != nil && ctx.Err() == nil {
				x.Logger.Warn("news of a pull not recorded", "image", f.Ref, "error", err)
			}
		}
	}()
	return n
}

// take never blocks.
func (n *news) take(e registry.Event) {
	switch e := e.(type) {
	case registry.Resolved:
		n.put(image.NoteResolved{Pull: n.pull.Pull, Resolved: image.Resolved{
			Name: e.Name, Digest: e.Digest, Manifest: e.Manifest, Layers: e.Layers, Bytes: e.Bytes,
		}})
	case registry.LayerProgress:
		n.pulls.Note(n.pull.Pull, handover.LayerTransfer{Digest: e.Digest, Offset: e.Offset, Size: e.Size})
	case registry.LayerDone:
		n.pulls.Note(n.pull.Pull, handover.LayerTransfer{Digest: e.Digest, Offset: e.Bytes, Size: e.Bytes})
		n.put(image.NoteLayer{Pull: n.pull.Pull, Layer: image.Layer{Digest: e.Digest, Bytes: uint64(max(e.Bytes, 0)), Present: e.Present}})
	}
}

func (n *news) put(c image.Command) {
	select {
	case n.waiting <- c:
	default:
		n.logger.Warn("too many news of a pull", "image", n.pull.Ref)
	}
}

// end waits until all news are in the log.
func (n *news) end() {
	close(n.waiting)
	<-n.ended
}
