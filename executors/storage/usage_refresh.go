package storage

import (
	"context"
	"sync"
	"time"
)

const (
	// paceEvery is how many files a paced walk looks at between two rests.
	paceEvery = 256
	// paceRest is how much longer it rests than it worked. Walks in the background take a
	// quarter of one CPU at most, however many containers there are and whatever they hold.
	paceRest = 3
	// paceLongest bounds one rest: while a busy machine lets the walk wait, that is no work.
	paceLongest = time.Second
)

// pace is called after each file of a walk, and rests as long as is needed. It returns the
// context's error.
type pace func(context.Context) error

// atOnce never rests.
func atOnce(ctx context.Context) error { return ctx.Err() }

// unhurried returns a pace for one walk or several after each other.
func unhurried() pace {
	begun, files := time.Now(), 0
	return func(ctx context.Context) error {
		if files++; files%paceEvery != 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(paceRest*time.Since(begun), paceLongest)):
		}
		begun = time.Now()
		return nil
	}
}

// A refresher does a piece of work for each id that it is given, one at a time and in
// order. It has one goroutine while there is work, and none otherwise.
type refresher struct {
	work   func(ctx context.Context, id string, pace pace)
	beside *background

	mu      sync.Mutex
	waiting []string
	running bool
}

func newRefresher(work func(context.Context, string, pace)) *refresher {
	return &refresher{work: work, beside: newBackground()}
}

// soon does the work for id in its turn. After the end it does nothing.
func (r *refresher) soon(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, id)
	if !r.running {
		r.running = true
		r.beside.do(r.run)
	}
}

func (r *refresher) run(ctx context.Context) {
	pace := unhurried()
	for {
		r.mu.Lock()
		if len(r.waiting) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		id := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.mu.Unlock()
		r.work(ctx, id, pace)
	}
}

// wait waits until there is no work.
func (r *refresher) wait() { r.beside.wait() }

// end cancels the work and waits for its end.
func (r *refresher) end() { r.beside.end() }
