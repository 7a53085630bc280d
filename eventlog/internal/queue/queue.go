// Package queue is the queue of requests for a log's writer: any goroutine puts,
// without waiting; one goroutine takes all that are queued.
package queue

import (
	"errors"
	"sync"
)

// Errors of Put.
var (
	ErrClosed = errors.New("the queue is closed")
	ErrFull   = errors.New("the queue is full")
)

// Queue is a first-in-first-out queue of sized items. Make it with New.
type Queue[T any] struct {
	limit int // bytes
	ready chan struct{}

	mu     sync.Mutex
	items  []sized[T]
	bytes  int
	closed bool
}

type sized[T any] struct {
	item  T
	bytes int
}

// New returns a queue that holds at most limit bytes.
func New[T any](limit int) *Queue[T] {
	return &Queue[T]{limit: limit, ready: make(chan struct{}, 1)}
}

// Put puts an item at the end. It never waits: a queue that is full or closed
// says so. An item of 0 bytes always has room.
func (q *Queue[T]) Put(item T, bytes int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if bytes > 0 && q.bytes > 0 && q.bytes+bytes > q.limit {
		return ErrFull
	}
	q.items = append(q.items, sized[T]{item, bytes})
	q.bytes += bytes
	q.signal()
	return nil
}

// Ready returns a channel that is ready when the queue may have items, or was
// closed.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Take removes and returns the oldest items: at most max of them, with at
// most bytes bytes together, but at least one if there is any. closed says
// that the queue was closed and nothing is left in it.
func (q *Queue[T]) Take(max, bytes int) (items []T, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, sum := 0, 0
	for n < len(q.items) && n < max && (n == 0 || sum+q.items[n].bytes <= bytes) {
		sum += q.items[n].bytes
		n++
	}
	for _, s := range q.items[:n] {
		items = append(items, s.item)
	}
	clear(q.items[:n]) // let go of what was taken
	q.bytes -= sum
	if n == len(q.items) {
		q.items = q.items[:0]
	} else {
		q.items = q.items[n:]
		q.signal()
	}
	return items, q.closed && len(q.items) == 0
}

// Close makes every further Put fail. What is in the queue can still be taken.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// signal makes Ready ready. One pending signal is enough for any number of
// items, since the taker takes all.
func (q *Queue[T]) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
