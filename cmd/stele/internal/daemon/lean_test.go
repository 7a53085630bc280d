package daemon

import (
	"slices"
	"testing"

	"github.com/stele-runtime/stele/executors/lean"
)

// Memory is given back once a process that has grown rests, not again and again for what it
// always takes, and now and then.
func TestGrowth(t *testing.T) {
	for _, test := range []struct {
		name  string
		sizes []int
		// due are the looks at which memory is given back.
		due []int
	}{
		{"at rest", slices.Repeat([]int{1000}, 100), nil},
		{"a little more", append([]int{1000}, slices.Repeat([]int{1050}, 100)...), []int{leanAgain, leanAgain + leanDone}},
		{"next to nothing", append([]int{1000}, slices.Repeat([]int{1010}, 100)...), nil},
		{"while it grows", []int{1000, 1100, 1200, 1300, 1400, 1500, 1600}, nil},
		{"after it has grown", []int{1000, 1100, 1200, 1200, 1000, 1000, 1000}, []int{4}},
		{"once more when that is done", append([]int{1000, 1100, 1200, 1200}, slices.Repeat([]int{1000}, 100)...), []int{4, 4 + leanDone}},
		{"twice", []int{1000, 1200, 1200, 1000, 1400, 1400, 1000}, []int{3, 6}},
		{"what it takes again and again", slices.Concat([]int{1000, 1200, 1200, 1000}, slices.Repeat([]int{1200}, 20)), []int{3, 3 + leanAgain, 3 + leanAgain + leanDone}},
		{"now and then", slices.Repeat([]int{1000}, 2*leanAnyway+1), []int{leanAnyway, 2 * leanAnyway}},
	} {
		var g growth
		var due []int
		for i, own := range test.sizes {
			if g.look(lean.Size{Own: own}) == letGo {
				due = append(due, i+1)
			}
		}
		if !slices.Equal(due, test.due) {
			t.Errorf("%s: memory is given back at the looks %v, not %v", test.name, due, test.due)
		}
	}
}

// A process that grows works; one at rest only gives back pages of files, if they have become more.
func TestGrowthOfFiles(t *testing.T) {
	size := func(own, files int) lean.Size { return lean.Size{Own: own, Files: files} }
	var g growth
	for i, step := range []struct {
		now  lean.Size
		want act
	}{
		{size(1000, 500), keep}, {size(1000, 520), keep}, {size(1010, 600), unmap},
		// What is more than the least is given back again.
		{size(1000, 800), keep}, {size(1000, 800), unmap}, {size(1000, 400), keep}, {size(1000, 460), unmap},
		{size(1040, 700), keep}, {size(1110, 700), work}, {size(1110, 400), letGo}, {size(900, 900), keep}, {size(900, 900), unmap},
	} {
		if got := g.look(step.now); got != step.want {
			t.Errorf("step %d: %v leads to %d, not %d", i, step.now, got, step.want)
		}
	}
}
