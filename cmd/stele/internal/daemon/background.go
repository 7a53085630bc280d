package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// restartAfter is the pause before a task that panicked runs again.
const restartAfter = time.Second

// Background owns the tasks that run beside the calls. A panic in a task is logged and
// the task restarted; the others continue.
type Background struct {
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// NewBackground returns a Background without a task.
func NewBackground(logger *slog.Logger) *Background {
	b := &Background{logger: logger}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Go runs a task until it returns. Its context ends with End. After a panic the task must
// be able to resume.
func (b *Background) Go(name string, task func(context.Context)) {
	b.tasks.Go(func() {
		for b.panics(name, task) && pause(b.ctx, restartAfter) {
		}
	})
}

// End ends all tasks and returns when they have ended.
func (b *Background) End() {
	b.cancel()
	b.tasks.Wait()
}

// panics runs a task and reports whether it ended in a panic.
func (b *Background) panics(name string, task func(context.Context)) (panicked bool) {
	defer func() {
		if r := recover(); r != nil {
			b.logger.Error("task panicked and is restarted", "task", name, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			panicked = true
		}
	}()
	task(b.ctx)
	return false
}
