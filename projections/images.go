package projections

import (
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
