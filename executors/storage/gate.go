package storage

import (
	"context"
	"sync"
)

// A gate keeps pulls and the collection of orphaned layers apart: a pull may build
// on a layer that no image has yet, and the collector must not take it away.
// Any number of pulls, or one collector.
type gate struct {
	mu         sync.Mutex
	pulls      int
	collecting chan struct{} // not nil while a collector works; closed when it ends
}

// enter waits until no collector works and counts a pull in. Whoever entered must
// leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		busy := g.collecting
		if busy == nil {
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

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pulls--
}

// tryCollect says whether the caller may collect now; if so it must call
// doneCollecting.
func (g *gate) tryCollect() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pulls > 0 || g.collecting != nil {
		return false
	}
	g.collecting = make(chan struct{})
	return true
}

func (g *gate) doneCollecting() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.collecting)
	g.collecting = nil
}

// BeginPull announces that layers are about to be written; the returned function
// announces the end, and must be called exactly once. The start waits for a
// collection of orphaned layers that is under way, and the end of the last pull
// makes one: what earlier pulls left unfinished is then known not to be needed.
func (s *Store) BeginPull(ctx context.Context) (end func(), err error) {
	if err := s.pulls.enter(ctx); err != nil {
		return nil, err
	}
	return func() {
		s.pulls.leave()
		if _, err := s.CollectOrphans(context.WithoutCancel(ctx), s.options.OrphanGrace); err != nil {
			s.log.Warn("layers of unfinished pulls could not be removed", "error", err)
		}
	}, nil
}
