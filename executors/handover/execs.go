package handover

import (
	"context"
	"sync"

	"github.com/stele-runtime/stele/actors/id"
)

// Execs holds the output of commands between the effect that runs them and their
// caller. A command that is not found here was begun by another daemon: it is not
// run again.
type Execs struct {
	mu    sync.Mutex
	calls map[id.Exec]*execCall
}

type execCall struct {
	// ctx is the caller's.
	ctx            context.Context
	stdout, stderr []byte
}

// NewExecs returns an empty table.
func NewExecs() *Execs { return &Execs{calls: map[id.Exec]*execCall{}} }

// Begin makes room for the output of a command, which ends with ctx. Collect
// returns the output and must be called in any case.
func (x *Execs) Begin(ctx context.Context, name id.Exec) (collect func() (stdout, stderr []byte)) {
	call := &execCall{ctx: ctx}
	x.mu.Lock()
	x.calls[name] = call
	x.mu.Unlock()
	return func() ([]byte, []byte) {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.calls, name)
		return call.stdout, call.stderr
	}
}

// Caller returns the context of the caller who waits for a command; false if nobody
// waits.
func (x *Execs) Caller(name id.Exec) (context.Context, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	call, ok := x.calls[name]
	if !ok {
		return nil, false
	}
	return call.ctx, true
}

// Deliver hands a command's output to its caller, if there is one.
func (x *Execs) Deliver(name id.Exec, stdout, stderr []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if call, ok := x.calls[name]; ok {
		call.stdout, call.stderr = stdout, stderr
	}
}
