package server

import (
	"context"
	"fmt"
	"sync"
)

// gate counts operations that must not be interrupted, so that an upgrade can wait
// until there is none.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	// changed is closed and replaced when inside or closed changes.
	changed chan struct{}
}

func newGate() *gate { return &gate{changed: make(chan struct{})} }

// enter waits while the gate is closed. leave must follow.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if !g.closed {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of an upgrade: %w", ctx.Err())
		}
	}
}

// admit is enter for what can't wait.
func (g *gate) admit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside++
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.tellLocked()
}

// close bars entry, and waits until nobody is inside. After an error the gate is open.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for {
		g.mu.Lock()
		inside, changed := g.inside, g.changed
		g.mu.Unlock()
		if inside == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			g.open()
			return fmt.Errorf("%d are still in flight: %w", inside, ctx.Err())
		}
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	g.tellLocked()
}

func (g *gate) tellLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}
