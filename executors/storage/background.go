package storage

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A background does things beside the calls, one after the other, until it is ended.
type background struct {
	turn   *semaphore.Weighted
	ending context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool // nothing more may begin
	tasks sync.WaitGroup
}

func newBackground() *background {
	b := &background{turn: semaphore.NewWeighted(1)}
	b.ending, b.cancel = context.WithCancel(context.Background())
	return b
}

// do calls a function when its turn comes, or with a context that is done if the end
// comes first. A function that comes after the end is not called.
func (b *background) do(task func(ending context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.tasks.Go(func() {
		if err := b.turn.Acquire(b.ending, 1); err == nil {
			defer b.turn.Release(1)
		}
		task(b.ending)
	})
}

// wait waits until nothing is left to do.
func (b *background) wait() { b.tasks.Wait() }

// end tells all that is under way to end, and waits for it.
func (b *background) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.cancel()
	b.wait()
}
