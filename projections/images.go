package projections

import (
	"context"
	"unique"

	"github.com/stele-runtime/stele/eventlog"
)

// place is where the stream of an idle image reference ends, which is all that is kept
// of it.
type place struct {
	version  eventlog.Version
	sequence eventlog.Sequence
	boot     unique.Handle[string]
}

func (p place) restored() *Image {
	return &Image{Version: p.version, Sequence: p.sequence, BootID: p.boot.Value()}
}

// putImage adds or replaces a reference's state. The caller holds mu.
func (l *Live) putImage(stream eventlog.Stream, at *Image, idle bool) {
	if !idle {
		l.busy[stream] = at
		delete(l.idle, stream)
		return
	}
	delete(l.busy, stream)
	l.idle[stream] = place{at.Version, at.Sequence, unique.Make(at.BootID)}
}

// image returns the state of a reference, the zero value if it is unknown. The caller
// holds mu or is the feed.
func (l *Live) image(stream eventlog.Stream) *Image {
	if at, busy := l.busy[stream]; busy {
		return at
	}
	if at, idle := l.idle[stream]; idle {
		return at.restored()
	}
	return &Image{}
}

// Image returns the state of an image reference at the end of its stream, the zero value
// if it is unknown, so that its actor need not read every pull there ever was. It waits
// until the models have reached the log's end. The caller must be the stream's only
// writer and append nothing meanwhile. It returns false if the stream has to be read: it
// is damaged, or the models no longer follow the log.
func (f *Feed) Image(ctx context.Context, stream eventlog.Stream) (Image, bool) {
	return recall(ctx, f, stream, func(string) (Image, bool) {
		if f.forgotten.has(stream) {
			return Image{}, true
		}
		return *f.Live.image(stream), true
	})
}
