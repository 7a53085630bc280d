package queue

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

func TestTakeTakesInOrderWithinItsLimits(t *testing.T) {
	q := New[int](100)
	for i, size := range []int{10, 20, 30, 40} {
		if err := q.Put(i, size); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		max, bytes int
		items      []int
	}{
		{1, 100, []int{0}},
		{9, 50, []int{1, 2}},
		{9, 5, []int{3}}, // larger than asked for, but one is always given
		{9, 5, nil},
	} {
		if got, closed := q.Take(want.max, want.bytes); !slices.Equal(got, want.items) || closed {
			t.Errorf("Take(%d, %d) = %v, %v; want %v", want.max, want.bytes, got, closed, want.items)
		}
	}
}

func TestPutRefusesWhenFull(t *testing.T) {
	q := New[int](100)
	if err := q.Put(0, 1000); err != nil {
		t.Errorf("a large item alone: %v", err)
	}
	if err := q.Put(1, 1); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if err := q.Put(2, 0); err != nil {
		t.Errorf("one without a size: %v", err)
	}
	q.Take(1, 0)
	if err := q.Put(3, 100); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestCloseLetsTheRestBeTaken(t *testing.T) {
	q := New[int](100)
	q.Put(0, 1)
	q.Put(1, 1)
	q.Close()
	if err := q.Put(2, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Put: %v", err)
	}
	if got, closed := q.Take(1, 100); !slices.Equal(got, []int{0}) || closed {
		t.Errorf("first: %v, %v", got, closed)
	}
	if got, closed := q.Take(1, 100); !slices.Equal(got, []int{1}) || !closed {
		t.Errorf("last: %v, %v", got, closed)
	}
}

// TestReadyMissesNothing: a taker that only waits for Ready gets everything, and
// learns of the close.
func TestReadyMissesNothing(t *testing.T) {
	q := New[int](1 << 20)
	const putters, each = 4, 1000
	var all sync.WaitGroup
	for p := range putters {
		all.Go(func() {
			for i := range each {
				if err := q.Put(p*each+i, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		all.Wait()
		q.Close()
	}()
	last := map[int]int{}
	n := 0
	for range q.Ready() {
		items, closed := q.Take(7, 100)
		for _, item := range items {
			p, i := item/each, item%each
			if i != last[p] {
				t.Fatalf("putter %d: got %d, want %d", p, i, last[p])
			}
			last[p]++
			n++
		}
		if closed {
			break
		}
	}
	if n != putters*each {
		t.Errorf("%d items, want %d", n, putters*each)
	}
}
