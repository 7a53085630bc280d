package machinetest

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// Settling finds the events of a stream that leave no trace in the state; see the machines'.
type Settling[E any] interface {
	Next(version uint64, e E) []uint64
}

// numbered is an event with its version.
type numbered[E any] struct {
	version uint64
	event   E
}

// kept is the events of a stream that are left.
type kept[E any] []numbered[E]

func (k kept[E]) without(versions []uint64) kept[E] {
	return slices.DeleteFunc(slices.Clone(k), func(n numbered[E]) bool { return slices.Contains(versions, n.version) })
}

func (k kept[E]) String() string {
	var text strings.Builder
	for _, n := range k {
		fmt.Fprintf(&text, "%3d  %s\n", n.version, Describe(n.event))
	}
	return text.String()
}

func (m Machine[S, C, E, F]) fold(events kept[E]) (s S) {
	for _, n := range events {
		s = m.Evolve(s, n.event)
	}
	return s
}

// Settled checks, for the events of random lives, that removing those that leave no trace changes
// no state: neither at once nor after what follows, whether all of them are removed or the
// first of them, and whether whoever removes them has seen the whole stream or only what is left.
// It also plays commands that nobody sends.
func Settled[S, C, E any, F Effect](t *rapid.T, rules Rules[S, C, E, F], steps int) {
	w := NewWalk(rules)
	if rapid.Bool().Draw(t, "strays") {
		for range rapid.IntRange(0, steps).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "likely") {
				_ = w.do(t, rules.Call(t, w))
			} else {
				_ = w.do(t, stray(t, rules.Machine.Commands))
			}
		}
	} else {
		w.Ramble(t, steps)
	}
	m := rules.Machine
	var state S
	var left kept[E]
	settling := m.Settling()
	for i, e := range w.Life.Events {
		version := uint64(i + 1)
		state = m.Evolve(state, e)
		left = append(left, numbered[E]{version, e})
		void := slices.Sorted(slices.Values(settling.Next(version, e)))
		if rapid.IntRange(0, 9).Draw(t, "cut short") == 0 {
			void = void[:rapid.IntRange(0, len(void)).Draw(t, "removed")]
		}
		less := left.without(void)
		if len(less) != len(left)-len(void) {
			t.Fatalf("versions %v are to be removed, some of them again\n%s", void, left)
		}
		left = less
		if diff := diff(state, m.fold(left)); diff != "" {
			t.Fatalf("after version %d, without %v, the state is another (-all +left):\n%s\nleft:\n%s\nall:\n%s",
				version, void, diff, left, w.Life.History())
		}
		if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
			settling = m.Settling()
			for _, n := range left {
				left = left.without(settling.Next(n.version, n.event))
			}
			if diff := diff(state, m.fold(left)); diff != "" {
				t.Fatalf("after a restart at version %d the state is another (-all +left):\n%s\nleft:\n%s\nall:\n%s",
					version, diff, left, w.Life.History())
			}
		}
	}
}

// noTrace returns the events of a life that leave no trace.
func (l *Life[S, C, E, F]) noTrace(t TB) kept[E] {
	t.Helper()
	settling := l.Machine.Settling()
	var all kept[E]
	var void []uint64
	for i, e := range l.Events {
		all = append(all, numbered[E]{uint64(i + 1), e})
		void = append(void, settling.Next(uint64(i+1), e)...)
	}
	if diff := diff(l.State, l.Machine.fold(all.without(void))); diff != "" {
		t.Fatalf("the state changes without the events that leave no trace (-all +left):\n%s\n%s", diff, l.History())
	}
	return slices.DeleteFunc(all, func(n numbered[E]) bool { return !slices.Contains(void, n.version) })
}
