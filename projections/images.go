package projections

import (
	"context"
	"unique"

	"github.com/stele-runtime/stele/eventlog"
)

// place is all that an idle image reference leaves behind: where its stream ends.
type place struct {
	version  eventlog.Version
	sequence eventlog.Sequence
	boot     unique.Handle[string]
}

func (p place) restored() *Image {
	return &Image{Version: p.version, Sequence: p.sequence, BootID: p.boot.Value()}
}

// putImage takes in a reference's state. Caller holds mu.
func (l *Live) putImage(stream eventlog.Stream, at *Image, idle bool) {
	if !idle {
		l.busy[stream] = at
		delete(l.idle, stream)
		return
	}
	delete(l.busy, stream)
	l.idle[stream] = place{at.Version, at.Sequence, unique.Make(at.BootID)}
}

// image returns the state of a reference, the empty state if it was never heard of.
// Caller holds mu or is the feed.
func (l *Live) image(stream eventlog.Stream) *Image {
	if at, busy := l.busy[stream]; busy {
		return at
	}
	if at, idle := l.idle[stream]; idle {
		return at.restored()
	}
	return &Image{}
}

// Image returns the state of an image reference at the end of its stream, the zero
// state for one that was never heard of: its actor can begin with that instead of
// reading all the pulls that there ever were. It waits until the models have come to
// the log's end. The caller is the stream's only writer, and appends nothing meanwhile.
// It returns false if only the stream itself can say: it cannot be followed, or the
// models no longer follow the log.
func (f *Feed) Image(ctx context.Context, stream eventlog.Stream) (Image, bool) {
	if f.Await(ctx, f.log.Last()) != nil {
		return Image{}, false
	}
	f.Live.mu.RLock()
	defer f.Live.mu.RUnlock()
	if _, damaged := f.Live.damaged[stream]; damaged {
		return Image{}, false
	}
	return *f.Live.image(stream), true
}
