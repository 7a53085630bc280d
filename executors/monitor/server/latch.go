package server

import "sync"

// latch is something that happens once. The zero latch has not happened. Most are never waited
// for, and only those that are have a channel.
type latch struct {
	mu sync.Mutex
	// c is closed when it happens; nil while nobody waits for it, always afterwards.
	c chan struct{}
}

// always is closed.
var always = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// happen is called once. What was written before is seen by those who know that it happened.
func (l *latch) happen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c != nil {
		close(l.c)
	}
	l.c = always
}

func (l *latch) happened() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c == always
}

// done returns a channel that is closed when it happens.
func (l *latch) done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		l.c = make(chan struct{})
	}
	return l.c
}
