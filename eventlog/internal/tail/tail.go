// Package tail holds the position of a log's newest record and wakes waiters for
// newer ones. It is all that a log's writer and its subscribers share, so a slow
// subscriber cannot slow the writer.
package tail

import (
	"context"
	"sync"

	"github.com/stele-runtime/stele/eventlog"
)

// Tail is the position. The zero value is that of an empty log. All methods
// may be called concurrently.
type Tail struct {
	mu    sync.Mutex
	last  eventlog.Sequence
	ended error         // why the log ended, if it did
	moved chan struct{} // closed when last or ended change; nil without waiters
}

// Last returns the newest record's sequence.
func (t *Tail) Last() eventlog.Sequence {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Advance moves the position to last. It never moves back.
func (t *Tail) Advance(last eventlog.Sequence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last > t.last {
		t.last = last
		t.wake()
	}
}

// End makes every present and future Wait return err. The first call counts.
func (t *Tail) End(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = err
		t.wake()
	}
}

// Ended returns what End was called with, or nil.
func (t *Tail) Ended() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// Wait returns nil as soon as there is a record beyond the given one, or the
// reason why there will be none: the error of the context or of End.
func (t *Tail) Wait(ctx context.Context, beyond eventlog.Sequence) error {
	for {
		moved, err := t.watch(beyond)
		if moved == nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch returns a channel to wait on, or nil and the result of the wait.
func (t *Tail) watch(beyond eventlog.Sequence) (<-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil {
		return nil, t.ended
	}
	if t.last > beyond {
		return nil, nil
	}
	if t.moved == nil {
		t.moved = make(chan struct{})
	}
	return t.moved, nil
}

func (t *Tail) wake() {
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}
