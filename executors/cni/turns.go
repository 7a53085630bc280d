package cni

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// turns bounds how many pods' plugins use the CPU at the same time. Plugins that wait,
// for a lock, a daemon or the kernel, do not count: they hold no other pod up.
type turns struct {
	// busy is free for plugins that use the CPU.
	busy *semaphore.Weighted
	// room bounds all that run, waiting or not, because each is a process or two.
	room *semaphore.Weighted
	// idle is how long plugins must not have used the CPU to count as waiting.
	idle time.Duration
}

// idleShare is the part of the time, one in so many, that plugins which poll for
// something use.
const idleShare = 50

func newTurns(busy, room int, idle time.Duration) turns {
	return turns{semaphore.NewWeighted(int64(busy)), semaphore.NewWeighted(int64(room)), idle}
}

// turn is a pod's. It must be ended.
type turn struct {
	turns
	// plugin is the process that runs for the pod, 0 between plugins.
	plugin     atomic.Int64
	end, ended chan struct{}
}

// take waits for a turn.
func (t turns) take(ctx context.Context) (*turn, error) {
	if err := t.room.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other pods' plugins: %w", err)
	}
	if err := t.busy.Acquire(ctx, 1); err != nil {
		t.room.Release(1)
		return nil, fmt.Errorf("wait for other pods' plugins: %w", err)
	}
	now := &turn{turns: t, end: make(chan struct{}), ended: make(chan struct{})}
	go now.watch()
	return now, nil
}

// done ends the turn.
func (t *turn) done() {
	close(t.end)
	<-t.ended
	t.room.Release(1)
}

// runs says which process is the plugin now, 0 for none. It may be called without a turn.
func (t *turn) runs(pid int) {
	if t != nil {
		t.plugin.Store(int64(pid))
	}
}

// watch gives the turn up while the plugin and its children wait. A plugin that goes on
// afterwards takes it back if nobody else wants it; it cannot be stopped. Only plugins
// that have a turn are looked at with their children: there are few, and it takes longer.
func (t *turn) watch() {
	defer close(t.ended)
	held := true
	defer func() {
		if held {
			t.busy.Release(1)
		}
	}()
	look := time.NewTicker(t.idle)
	defer look.Stop()
	var last cpuUse
	for {
		select {
		case <-t.end:
			return
		case <-look.C:
		}
		pid := int(t.plugin.Load())
		now := cpuUseOf(pid)
		if held {
			now = cpuUseOfGroup(pid)
		}
		works := now.pid != last.pid || now.runnable || (now.used-last.used).Abs() > t.idle/idleShare
		last = now
		switch {
		case held && !works:
			t.busy.Release(1)
			held = false
			last = cpuUseOf(pid)
		case !held && works:
			held = t.busy.TryAcquire(1)
		}
	}
}
