package projections

import (
	"context"
	"fmt"
	"iter"
	"sort"
	"sync"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Change is what one record of the log changed.
type Change struct {
	// Record is the record without its payload: What has the event.
	Record eventlog.Record
	What   What
}

// What is the part of a Change that differs by the kind of stream. Everything in it is
// shared and must not be modified.
//
//sumtype:decl
type What interface{ what() }

// SandboxChanged: an event of a sandbox.
type SandboxChanged struct {
	Event sandbox.Event
	// Before is nil if the stream begins with the event.
	Before, After *Sandbox
	// Ended: nothing follows, and the sandbox is no longer live.
	Ended bool
}

// ContainerChanged: an event of a container.
type ContainerChanged struct {
	Event container.Event
	// Before is nil if the stream begins with the event.
	Before, After *Container
	// Ended: nothing follows, and the container is no longer live.
	Ended bool
}

// ImageChanged: an event of an image reference.
type ImageChanged struct {
	Event         image.Event
	Before, After *Image
	// Idle: nothing is under way any more.
	Idle bool
}

// HostChanged: an event of the node itself.
type HostChanged struct {
	Event         host.Event
	Before, After *Host
}

// StreamPutAside: the stream cannot be followed from this record on. What it was about
// is no longer live, whatever became of it.
type StreamPutAside struct{ Reason string }

func (SandboxChanged) what()   {}
func (ContainerChanged) what() {}
func (ImageChanged) what()     {}
func (HostChanged) what()      {}
func (StreamPutAside) what()   {}

const (
	// changesKept is how far a follower may lag behind, in changes.
	changesKept = 1024
	// changesAtOnce is how many a follower takes at a time.
	changesAtOnce = 64
)

// MissedError tells a follower that it was too slow: the changes of some records are no
// longer kept. Their outcome is in the models.
type MissedError struct {
	// After and Through bound the records: After is the last one that the follower
	// had, Through the last one missed.
	After, Through eventlog.Sequence
}

func (e *MissedError) Error() string {
	return fmt.Sprintf("the changes of records %d to %d are no longer kept", e.After+1, e.Through)
}

// Changes hands what records change on to followers, in order. It never waits for
// them: it keeps the last changesKept changes, and who is slower misses some and is
// told so.
type Changes struct {
	mu sync.Mutex
	// kept is a ring: the change with number n is at n modulo its length. first and
	// next bound the numbers of those it holds.
	kept        [changesKept]Change
	first, next uint64
	// forgotten is the last record whose change is not kept, reached the last one that
	// was taken in.
	forgotten, reached eventlog.Sequence
	// moved is closed, and made anew, when reached grows.
	moved chan struct{}
	// ended is why nothing more will come; nil until then.
	ended error
}

func newChanges() *Changes { return &Changes{moved: make(chan struct{})} }

// begin starts behind a record; what was before is not kept.
func (c *Changes) begin(at eventlog.Sequence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten, c.reached = at, at
}

// publish hands on a change, or tells with nil that a record changed nothing.
func (c *Changes) publish(reached eventlog.Sequence, change *Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if change != nil {
		place := &c.kept[c.next%changesKept]
		if c.next-c.first == changesKept {
			c.forgotten = place.Record.Sequence
			c.first++
		}
		*place = *change
		c.next++
	}
	c.reached = reached
	close(c.moved)
	c.moved = make(chan struct{})
}

// end tells followers that nothing more will come.
func (c *Changes) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = why
	close(c.moved)
}

// Err is why nothing more will come; nil as long as changes do.
func (c *Changes) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// wait returns once the record was taken in.
func (c *Changes) wait(ctx context.Context, s eventlog.Sequence) error {
	for {
		c.mu.Lock()
		reached, moved, ended := c.reached, c.moved, c.ended
		c.mu.Unlock()
		switch {
		case reached >= s:
			return nil
		case ended != nil:
			return ended
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Follow yields the changes of the records after the given one, those that are kept and
// then new ones, in order. To miss none, read the models first and go on after
// Live.Sequence.
//
// A follower that asks for changes which are no longer kept gets a *MissedError and
// goes on behind them; it should read the models again. Any other error is the last
// thing that is yielded: the context's, or why the feed has ended.
func (c *Changes) Follow(ctx context.Context, after eventlog.Sequence) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		buffer := make([]Change, changesAtOnce)
		for {
			if ctx.Err() != nil {
				yield(Change{}, context.Cause(ctx))
				return
			}
			now := c.since(after, buffer)
			if now.forgotten > after {
				missed := &MissedError{After: after, Through: now.forgotten}
				after = now.forgotten
				if !yield(Change{}, missed) {
					return
				}
				continue
			}
			for _, change := range now.batch {
				if ctx.Err() != nil {
					break
				}
				after = change.Record.Sequence
				if !yield(change, nil) {
					return
				}
			}
			if len(now.batch) > 0 {
				continue
			}
			if now.ended != nil {
				yield(Change{}, now.ended)
				return
			}
			select {
			case <-now.moved:
			case <-ctx.Done():
			}
		}
	}
}

// glance is what a follower sees of Changes at once.
type glance struct {
	batch     []Change
	forgotten eventlog.Sequence
	moved     <-chan struct{}
	ended     error
}

// since copies the next changes after a record into the buffer.
func (c *Changes) since(after eventlog.Sequence, buffer []Change) glance {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := int(c.next - c.first)
	i := sort.Search(kept, func(i int) bool { return c.at(i).Record.Sequence > after })
	n := 0
	for ; n < len(buffer) && i+n < kept; n++ {
		buffer[n] = *c.at(i + n)
	}
	return glance{batch: buffer[:n], forgotten: c.forgotten, moved: c.moved, ended: c.ended}
}

// at is the i-th change that is kept. Caller holds mu.
func (c *Changes) at(i int) *Change { return &c.kept[(c.first+uint64(i))%changesKept] }
