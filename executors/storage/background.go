package storage

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A background runs tasks beside the calls, one at a time, until it is ended.
type background struct {
	turn   *semaphore.Weighted
	ending context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool // no task may begin
	tasks sync.WaitGroup
}

func newBackground() *background {
	b := &background{turn: semaphore.NewWeighted(1)}
	b.ending, b.cancel = context.WithCancel(context.Background())
	return b
}

// do calls a task in its turn, or with a context that is done if the end comes first. After
// the end it calls none.
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

// wait waits for all tasks.
func (b *background) wait() { b.tasks.Wait() }

// end cancels all tasks and waits for them.
func (b *background) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.cancel()
	b.wait()
}
