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
	// Record is the record without its payload, which What has decoded.
	Record eventlog.Record
	What   What
}

// What is the part of a Change that depends on the kind of stream. Everything in it is
// shared and must not be modified.
//
//sumtype:decl
type What interface{ what() }

// SandboxChanged: an event of a sandbox.
type SandboxChanged struct {
	Event sandbox.Event
	// Before is nil if the stream begins with the event.
	Before, After *Sandbox
	// Ended: it is the stream's last event, and the sandbox is no longer live.
	Ended bool
}

// ContainerChanged: an event of a container.
type ContainerChanged struct {
	Event container.Event
	// Before is nil if the stream begins with the event.
	Before, After *Container
	// Ended: it is the stream's last event, and the container is no longer live.
	Ended bool
}

// ImageChanged: an event of an image reference.
type ImageChanged struct {
	Event         image.Event
	Before, After *Image
	// Idle: nothing is under way after it.
	Idle bool
}

// HostChanged: an event of the node itself.
type HostChanged struct {
	Event         host.Event
	Before, After *Host
}

// StreamPutAside: the stream cannot be followed from this record on. Of its entity, the
// last good state stays.
type StreamPutAside struct{ Reason string }

func (SandboxChanged) what()   {}
func (ContainerChanged) what() {}
func (ImageChanged) what()     {}
func (HostChanged) what()      {}
func (StreamPutAside) what()   {}

const (
	// changesKept is how many changes a follower may lag behind.
	changesKept = 256
	// changesAtOnce is how many changes a follower takes at a time.
	changesAtOnce = 64
)

// MissedError tells a follower that some changes are no longer kept. Their effect is in
// the models.
type MissedError struct {
	// After is the last record that the follower had, Through the last one that it
	// missed.
	After, Through eventlog.Sequence
}

func (e *MissedError) Error() string {
	return fmt.Sprintf("the changes of records %d to %d are no longer kept", e.After+1, e.Through)
}

// Changes publishes what records change to followers, in order. It never waits for them:
// it keeps the last changesKept changes, and a slower follower misses some and gets an
// error that says which.
type Changes struct {
	mu sync.Mutex
	// kept is a ring: change number n is at n modulo its length. It holds the numbers
	// from first to before next.
	kept        [changesKept]Change
	first, next uint64
	// forgotten is the last record whose change is no longer kept, reached the last
	// one that was published.
	forgotten, reached eventlog.Sequence
	// followers has, for each that follows, the last record that it has.
	followers map[*eventlog.Sequence]struct{}
	// moved is closed and replaced when reached grows.
	moved chan struct{}
	// ended is why no more changes follow; nil until then.
	ended error
}

func newChanges() *Changes {
	return &Changes{moved: make(chan struct{}), followers: map[*eventlog.Sequence]struct{}{}}
}

// begin starts behind a record.
func (c *Changes) begin(at eventlog.Sequence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten, c.reached = at, at
}

// publish adds a record's change; nil if it changed nothing.
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

// drop drops the changes that all followers have: each keeps two states.
func (c *Changes) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.reached
	for has := range c.followers {
		all = min(all, *has)
	}
	for c.first < c.next && c.at(0).Record.Sequence <= all {
		c.forgotten = c.at(0).Record.Sequence
		*c.at(0) = Change{}
		c.first++
	}
}

// end tells followers that no more changes follow.
func (c *Changes) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = why
	close(c.moved)
}

// Err is why no more changes follow; nil while they do.
func (c *Changes) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// wait returns once a record was published.
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

// Follow yields, in order, the changes of the records after the given one: first those
// that are kept, then new ones. To miss none, take Live.Sequence, read the models, and
// follow from that sequence.
//
// A *MissedError says that changes are no longer kept; the iteration resumes behind
// them, and the models should be read again. Any other error ends it: the context's, or
// why the feed ended.
func (c *Changes) Follow(ctx context.Context, after eventlog.Sequence) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		buffer, has := make([]Change, changesAtOnce), new(eventlog.Sequence)
		defer c.leave(has)
		for {
			if ctx.Err() != nil {
				yield(Change{}, context.Cause(ctx))
				return
			}
			now := c.since(has, after, buffer)
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
				clear(now.batch)
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

// glance is what a follower sees of Changes at one moment.
type glance struct {
	batch     []Change
	forgotten eventlog.Sequence
	moved     <-chan struct{}
	ended     error
}

// leave ends what since began.
func (c *Changes) leave(has *eventlog.Sequence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.followers, has)
}

// since copies the next changes after a record, which the follower has, into the buffer.
func (c *Changes) since(has *eventlog.Sequence, after eventlog.Sequence, buffer []Change) glance {
	c.mu.Lock()
	defer c.mu.Unlock()
	*has = after
	c.followers[has] = struct{}{}
	kept := int(c.next - c.first)
	i := sort.Search(kept, func(i int) bool { return c.at(i).Record.Sequence > after })
	n := 0
	for ; n < len(buffer) && i+n < kept; n++ {
		buffer[n] = *c.at(i + n)
	}
	return glance{batch: buffer[:n], forgotten: c.forgotten, moved: c.moved, ended: c.ended}
}

// at is the i-th change that is kept. The caller holds mu.
func (c *Changes) at(i int) *Change { return &c.kept[(c.first+uint64(i))%changesKept] }
