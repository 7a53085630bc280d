package settled_test

import (
	"slices"
	"testing"

	"github.com/stele-runtime/stele/actors/settled"
)

func TestEpisodes(t *testing.T) {
	var s settled.Stream
	check := func(what string, got, want []uint64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v leave no trace, want %v", what, got, want)
		}
	}
	check("a change of nothing", s.Within("a", 1), []uint64{1})
	check("the end of nothing", s.Ends("a", "x", 2), []uint64{2})
	s.Begins("a", "x", 3)
	s.Begins("a", "y", 4)
	s.Begins("b", "x", 5)
	check("a change", s.Within("a", 6), nil)
	check("the first end", s.Ends("a", "x", 7), nil)
	check("another episode's end", s.Ends("b", "x", 8), []uint64{5, 8})
	s.Without("a", []uint64{6})
	check("the last end", s.Ends("a", "y", 9), []uint64{3, 4, 7, 9})
	check("a change after the end", s.Within("a", 10), []uint64{10})
}

func TestLatest(t *testing.T) {
	var s settled.Stream
	check := func(event uint64, got, want []uint64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("after %d: %v leave no trace, want %v", event, got, want)
		}
	}
	check(1, s.Latest("a", 2, 1, 1), nil)
	check(2, s.Latest("a", 2, 2, 2), nil)
	check(3, s.Latest("b", 0, 3, 3), nil)
	check(4, s.Latest("a", 2, 4, 4), nil)
	check(5, s.Latest("a", 2, 5, 5), []uint64{4})
	check(6, s.Latest("b", 0, 2, 6), []uint64{6}) // an older one that arrives late
	check(7, s.Latest("b", 0, 3, 7), []uint64{3})
	s.Anew("a")
	check(8, s.Latest("a", 2, 8, 8), nil)
}
