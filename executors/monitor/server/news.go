package server

import (
	"slices"
	"sync"
)

// news has the last word on each container, for those who subscribe to it.
type news[T any] struct {
	mu   sync.Mutex
	last uint64
	all  map[string]item[T]
	// grown is closed and replaced when there is more.
	grown chan struct{}
}

type item[T any] struct {
	// at is the number of the note, which rises with each.
	at   uint64
	word T
}

func newNews[T any]() *news[T] {
	return &news[T]{all: map[string]item[T]{}, grown: make(chan struct{})}
}

// note replaces what is said of a container. The word must not be changed afterwards.
func (n *news[T]) note(id string, word T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	n.all[id] = item[T]{n.last, word}
	close(n.grown)
	n.grown = make(chan struct{})
}

func (n *news[T]) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, id)
}

// list returns what was noted after a number, in that order, the number for the next call, and
// a channel that is closed when there is more.
func (n *news[T]) list(after uint64) (fresh []T, last uint64, grown <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var items []item[T]
	for _, x := range n.all {
		if x.at > after {
			items = append(items, x)
		}
	}
	slices.SortFunc(items, func(a, b item[T]) int { return int(a.at) - int(b.at) })
	for _, x := range items {
		fresh = append(fresh, x.word)
	}
	return fresh, n.last, n.grown
}
