package handover

import (
	"context"
	"sync"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/streams"
)

// Execs connects the callers of commands with the effects that run them. A command that
// is not found here was begun by another daemon: it is not run again.
type Execs struct {
	mu    sync.Mutex
	calls map[id.Exec]Caller
}

// Caller is who waits for a command.
type Caller struct {
	// Context ends when the caller has gone.
	Context context.Context
	Stdio   streams.Stdio
}

// NewExecs returns an empty table.
func NewExecs() *Execs { return &Execs{calls: map[id.Exec]Caller{}} }

// Begin announces the caller of a command, who has gone when ctx ends. The command may
// use the streams until then. end must be called in any case.
func (x *Execs) Begin(ctx context.Context, name id.Exec, stdio streams.Stdio) (end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls[name] = Caller{ctx, stdio}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.calls, name)
	}
}

// Caller returns who waits for a command; false if nobody does.
func (x *Execs) Caller(name id.Exec) (Caller, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	caller, ok := x.calls[name]
	return caller, ok
}
