package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stele-runtime/stele/eventlog"
)

// forgotten are streams that the log no longer has, until the feed has dropped what it knows of
// them.
type forgotten struct {
	some atomic.Bool
	mu   sync.Mutex
	// streams maps each to the entry in the history that went with it, or zero.
	streams map[eventlog.Stream]Ended
}

// Forget drops what is remembered of a stream that has ended and was removed from the log, so
// that the models are those that the log leads to. It may be called from anywhere.
func (f *Feed) Forget(stream eventlog.Stream) {
	was := f.History.forget(stream)
	if was == (Ended{}) && !strings.HasPrefix(string(stream), "image/") {
		return
	}
	f.forgotten.mu.Lock()
	defer f.forgotten.mu.Unlock()
	if f.forgotten.streams == nil {
		f.forgotten.streams = map[eventlog.Stream]Ended{}
	}
	f.forgotten.streams[stream] = was
	f.forgotten.some.Store(true)
}

// forget drops from the models and the next checkpoint what was forgotten. Only the feed may
// call it.
func (f *Feed) forget() {
	if !f.forgotten.some.Swap(false) {
		return
	}
	f.Live.mu.Lock()
	defer f.Live.mu.Unlock()
	f.forgotten.mu.Lock()
	defer f.forgotten.mu.Unlock()
	for stream, was := range f.forgotten.streams {
		if _, idle := f.Live.idle[stream]; idle {
			delete(f.Live.idle, stream)
			f.draft.pairs[key(keyLive, stream)] = nil
		}
		if was != (Ended{}) {
			f.draft.pairs[endedKey(was)] = nil
		}
	}
	f.forgotten.streams = nil
}

// has reports whether the feed has yet to forget a stream.
func (x *forgotten) has(stream eventlog.Stream) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, is := x.streams[stream]
	return is
}

// dropGone drops what a checkpoint has as living although it ended behind the checkpoint and
// was then removed from the log.
func (f *Feed) dropGone(ctx context.Context) error {
	var streams []eventlog.Stream
	for name := range f.Live.sandboxes.byID {
		streams = append(streams, eventlog.Stream("sandbox/"+name))
	}
	for name := range f.Live.containers.byID {
		streams = append(streams, eventlog.Stream("container/"+name))
	}
	for _, stream := range streams {
		if _, damaged := f.Live.damaged[stream]; damaged {
			continue
		}
		_, exists, err := f.log.Stream(ctx, stream)
		if _, damage := errors.AsType[*eventlog.DamageError](err); damage {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", stream, err)
		}
		if !exists {
			f.Live.mu.Lock()
			f.Live.close(stream)
			f.Live.mu.Unlock()
			f.draft.pairs[key(keyLive, stream)] = nil
		}
	}
	return nil
}

// forget drops a stream. It returns what was remembered of it, or zero.
func (h *History) forget(stream eventlog.Stream) Ended {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.ended, func(e Ended) bool { return e.Stream == stream })
	if i < 0 {
		return Ended{}
	}
	was := h.ended[i]
	if i == 0 { // What ended first mostly goes first.
		h.ended = h.ended[1:]
		return was
	}
	h.ended = slices.Concat(h.ended[:i], h.ended[i+1:])
	return was
}
