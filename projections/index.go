package projections

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// index finds entities by id and lists them in creation order. It has no lock: the
// caller keeps a change apart from other changes and from reads.
type index[ID ~string, T entry] struct {
	byID   map[ID]T
	sorted sorted[T]
}

// entry is an immutable entity in an index.
type entry interface {
	comparable
	// rank is its place in creation order; it never changes.
	rank() rank
}

// rank orders entities by creation time, then by id.
type rank struct {
	created time.Time
	id      string
}

func (r rank) compare(other rank) int {
	return cmp.Or(r.created.Compare(other.created), cmp.Compare(r.id, other.id))
}

func newIndex[ID ~string, T entry]() index[ID, T] { return index[ID, T]{byID: map[ID]T{}} }

// emptied returns an empty index with room for as many entities.
func (x *index[ID, T]) emptied() index[ID, T] {
	return index[ID, T]{byID: make(map[ID]T, len(x.byID)), sorted: sorted[T]{items: make([]T, 0, len(x.sorted.items))}}
}

// put adds an entity or replaces its earlier state.
func (x *index[ID, T]) put(id ID, now T) {
	x.byID[id] = now
	x.sorted.put(now)
}

// remove drops an entity, if it is there.
func (x *index[ID, T]) remove(id ID) {
	if was, there := x.byID[id]; there {
		delete(x.byID, id)
		x.sorted.remove(was)
	}
}

// replace takes everything from another index, of the same entities.
func (x *index[ID, T]) replace(other *index[ID, T]) {
	x.byID, x.sorted.items = other.byID, other.sorted.items
	x.sorted.lent.Store(false)
}

// sorted is a list of entities by rank. A list that was handed out never changes: later
// changes are made to a copy, or beyond its end.
type sorted[T entry] struct {
	items []T
	// lent: a reader may hold items. It is atomic because readers share a read lock.
	lent atomic.Bool
}

// all returns the list, which must not be modified.
func (s *sorted[T]) all() []T {
	if !s.lent.Load() {
		s.lent.Store(true)
	}
	return slices.Clip(s.items)
}

func (s *sorted[T]) put(x T) {
	i, found := s.find(x)
	if i == len(s.items) {
		// No list that was handed out reaches here.
		s.items = append(s.items, x)
		return
	}
	s.own()
	if found {
		s.items[i] = x
		return
	}
	s.items = slices.Insert(s.items, i, x)
}

func (s *sorted[T]) remove(x T) {
	if i, found := s.find(x); found {
		s.own()
		s.items = slices.Delete(s.items, i, i+1)
	}
}

func (s *sorted[T]) find(x T) (place int, found bool) {
	return slices.BinarySearchFunc(s.items, x.rank(), func(y T, r rank) int { return y.rank().compare(r) })
}

// own makes items private before they are modified.
func (s *sorted[T]) own() {
	if s.lent.Load() {
		s.items = slices.Clone(s.items)
		s.lent.Store(false)
	}
}
