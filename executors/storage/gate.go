package storage

import (
	"context"
	"sync"
	"time"
)

// A gate keeps pulls and the collection of orphaned layers apart: a pull may build on a
// layer that no image has yet, which the collector must leave alone. Any number of pulls,
// or one collector.
type gate struct {
	mu         sync.Mutex
	pulls      int
	collecting chan struct{} // not nil while a collector works; closed when it ends
	// since is when the oldest pull began that is under way, or has ended without a
	// collection after it. full says that one of them filled the disk.
	since time.Time
	full  bool
}

// enter waits until no collector works, and counts a pull in. The caller must call leave.
func (g *gate) enter(ctx context.Context, now time.Time) error {
	for {
		g.mu.Lock()
		busy := g.collecting
		if busy == nil {
			if g.pulls == 0 && !g.full {
				g.since = now
			}
			g.pulls++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) leave(full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pulls--
	g.full = g.full || full
}

// tryCollect reports whether the caller may collect now; if so it must call doneCollecting.
// Pulls that filled the disk may have left layers made after since, which is zero if there
// were none.
func (g *gate) tryCollect() (since time.Time, may bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pulls > 0 || g.collecting != nil {
		return time.Time{}, false
	}
	g.collecting = make(chan struct{})
	if g.full {
		since = g.since
	}
	return since, true
}

// doneCollecting ends a collection; whole says whether it was completed.
func (g *gate) doneCollecting(whole bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.collecting)
	g.collecting = nil
	g.full = g.full && !whole
}

// BeginPull announces that layers are about to be written; the returned function announces
// the end, with the pull's failure, and must be called exactly once. The start waits for a
// running collection of orphaned layers, and the end of the last pull starts one: leftovers
// of earlier pulls are then known to be useless. Layers that a retry may want stay for a
// while. But if a pull filled the disk, the layers made since it and the pulls beside it
// began go at once. (A pull of another program at that time may lose layers, too, and fails
// as it would have on a full disk.)
func (m *Images) BeginPull(ctx context.Context) (end func(failed error), err error) {
	if err := m.pulls.enter(ctx, m.now()); err != nil {
		return nil, err
	}
	return func(failed error) {
		m.pulls.leave(IsFull(failed))
		if _, err := m.CollectOrphans(context.WithoutCancel(ctx), m.orphanGrace); err != nil {
			m.log.Warn("layers of unfinished pulls could not be removed", "error", err)
		}
		m.usage.measureSoon()
	}, nil
}
