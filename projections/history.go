package projections

import (
	"cmp"
	"slices"
	"sync"

	"github.com/stele-runtime/stele/eventlog"
)

// historyKept is how many ended streams are remembered, at some 120 bytes each.
const historyKept = 10_000

// Ended is a stream that is complete: its sandbox or container is gone, or its creation
// failed.
type Ended struct {
	Stream eventlog.Stream
	// Sequence is that of its last record.
	Sequence eventlog.Sequence
}

// History remembers what has ended, the last historyKept streams.
type History struct {
	mu sync.RWMutex
	// ended is in the order of the last records. It is only cut at the front and
	// appended to, so that lists that were handed out never change.
	ended []Ended
}

// Ended returns what is remembered, in the order of the last records. It must not be
// modified.
func (h *History) Ended() []Ended {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.ended[:len(h.ended):len(h.ended)]
}

// apply remembers what a record has ended. It returns what was added, and what was dropped
// for it; either may be zero.
func (h *History) apply(c *Change) (added, dropped Ended) {
	var ended bool
	switch what := c.What.(type) {
	case SandboxChanged:
		ended = what.Ended
	case ContainerChanged:
		ended = what.Ended
	case ImageChanged, HostChanged, StreamPutAside:
	}
	if !ended {
		return Ended{}, Ended{}
	}
	added = Ended{c.Record.Stream, c.Record.Sequence}
	return added, h.add(added)
}

// add remembers an ended stream and returns the one dropped for it, or zero.
func (h *History) add(e Ended) (dropped Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, e)
	if len(h.ended) > historyKept {
		dropped, h.ended = h.ended[0], h.ended[1:]
	}
	return dropped
}

// merge adds streams that have ended, in the order of the last records.
func (h *History) merge(others []Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = slices.Concat(h.ended, others)
	slices.SortFunc(h.ended, func(a, b Ended) int { return cmp.Compare(a.Sequence, b.Sequence) })
	h.ended = h.ended[max(0, len(h.ended)-historyKept):]
}
