package storage

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// turns let one caller at a time work on what has a name.
type turns struct {
	mu sync.Mutex // not held while anybody works
	of map[string]*turn
}

type turn struct {
	free  *semaphore.Weighted
	users int
}

// take waits for the turn at a name; the caller must call end.
func (t *turns) take(ctx context.Context, name string) (end func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[string]*turn{}
	}
	its := t.of[name]
	if its == nil {
		its = &turn{free: semaphore.NewWeighted(1)}
		t.of[name] = its
	}
	its.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if its.users--; its.users == 0 {
			delete(t.of, name)
		}
	}
	if err := its.free.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	return func() {
		its.free.Release(1)
		leave()
	}, nil
}
