package node

import "sync"

// effects counts what is under way. The zero value is ready for use.
type effects struct {
	mu      sync.Mutex
	running int
	// ended is closed when nothing runs any more; nil until close was called.
	ended chan struct{}
}

// Go runs f in a goroutine of its own, or drops it after close: the effect stays
// owed then.
func (e *effects) Go(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil {
		return
	}
	e.running++
	go func() {
		defer e.done()
		f()
	}()
}

func (e *effects) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running--; e.running == 0 && e.ended != nil {
		close(e.ended)
	}
}

// close returns what is closed when everything has ended.
func (e *effects) close() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended == nil {
		e.ended = make(chan struct{})
		if e.running == 0 {
			close(e.ended)
		}
	}
	return e.ended
}
