package node

import "sync"

// effects counts the effects under way. The zero value is ready to use.
type effects struct {
	mu      sync.Mutex
	running int
	// ended is closed once nothing runs; nil until close is called.
	ended chan struct{}
}

// Go runs f in a goroutine of its own. After close it drops f: the effect stays owed.
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

// close returns a channel that is closed once all effects have ended.
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
