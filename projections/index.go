package projections

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// index finds entities by id, and lists them in the order of creation. It has no
// lock of its own: changes exclude each other and all reads.
type index[ID ~string, T entry] struct {
	byID   map[ID]T
	sorted sorted[T]
}

// entry is an entity as an index keeps it. It is never modified.
type entry interface {
	comparable
	// rank is its place in the order of creation, which it keeps for life.
	rank() rank
}

// rank orders entities by their creation, and by id where the clock ran too slowly to
// tell them apart.
type rank struct {
	created time.Time
	id      string
}

func (r rank) compare(other rank) int {
	return cmp.Or(r.created.Compare(other.created), cmp.Compare(r.id, other.id))
}

func newIndex[ID ~string, T entry]() index[ID, T] { return index[ID, T]{byID: map[ID]T{}} }

// put takes in an entity, in place of an earlier state of it.
func (x *index[ID, T]) put(id ID, now T) {
	x.byID[id] = now
	x.sorted.put(now)
}

// remove forgets an entity, if it is there.
func (x *index[ID, T]) remove(id ID) {
	if was, there := x.byID[id]; there {
		delete(x.byID, id)
		x.sorted.remove(was)
	}
}

// sorted is a list of entities by rank. A list that was handed out never changes: the
// next change in the middle is made to a copy.
type sorted[T entry] struct {
	items []T
	// lent: a reader may hold items. Readers share a lock, so it is atomic.
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
		// Beyond the end of every list that was handed out.
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

// own makes items a list that no reader holds.
func (s *sorted[T]) own() {
	if s.lent.Load() {
		s.items = slices.Clone(s.items)
		s.lent.Store(false)
	}
}
