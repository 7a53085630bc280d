package daemon

import (
	"errors"
	"os"
	"slices"
	"testing"
)

// Only what a file has all of is given back.
func TestUntouched(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 08:01 42                                 /usr/bin/stele
Size:               1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r-xp 00100000 08:01 42                                 /usr/bin/stele
Anonymous:             4 kB
00600000-00700000 r--p 00200000 08:01 42                                 /usr/bin/stele
Anonymous:             0 kB
AnonHugePages:         0 kB
00700000-00800000 rw-p 00300000 08:01 42                                 /usr/bin/stele
Anonymous:             0 kB
00800000-00900000 r--s 00000000 08:01 43                                 /var/lib/events.db
Anonymous:             0 kB
00900000-00a00000 r-xp 00000000 00:00 0                                  [vdso]
Anonymous:             0 kB
00a00000-00b00000 r--p 00000000 08:01 44                                 /usr/bin/stele-monitor
Anonymous:             0 kB
`
	want := []pages{{0x400000, 0x500000, true}, {0x600000, 0x700000, true}, {0x800000, 0x900000, false}}
	if got := untouched([]byte(smaps), "/usr/bin/stele"); !slices.Equal(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
}

// A process goes on as before, with fewer pages.
func TestLetGo(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(untouched(smaps, program)) == 0 {
		t.Fatalf("nothing can be given back of\n%s", smaps)
	}
	before, err := resident()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(recache(), LetGo()); err != nil {
		t.Fatal(err)
	}
	if after, err := resident(); err != nil || after.own+after.files >= before.own+before.files {
		t.Errorf("%v pages, before %v: %v", after, before, err)
	}
}

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
		{"a little more", append([]int{1000}, slices.Repeat([]int{1050}, 100)...), nil},
		{"while it grows", []int{1000, 1100, 1200, 1300, 1400, 1500, 1600}, nil},
		{"after it has grown", []int{1000, 1100, 1200, 1200, 1000, 1000, 1000}, []int{4}},
		{"twice", []int{1000, 1200, 1200, 1000, 1400, 1400, 1000}, []int{3, 6}},
		{"what it takes again and again", slices.Concat([]int{1000, 1200, 1200, 1000}, slices.Repeat([]int{1200}, 20)), []int{3, 3 + leanAgain}},
		{"now and then", slices.Repeat([]int{1000}, 2*leanAnyway+1), []int{leanAnyway, 2 * leanAnyway}},
	} {
		var g growth
		var due []int
		for i, own := range test.sizes {
			if g.look(size{own: own}) == letGo {
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
	var g growth
	for i, step := range []struct {
		now  size
		want act
	}{
		{size{1000, 500}, keep}, {size{1000, 520}, keep}, {size{1010, 600}, unmap},
		// What is more than the least is given back again.
		{size{1000, 800}, keep}, {size{1000, 800}, unmap}, {size{1000, 400}, keep}, {size{1000, 460}, unmap},
		{size{1040, 700}, keep}, {size{1110, 700}, work}, {size{1110, 400}, letGo}, {size{900, 900}, keep}, {size{900, 900}, unmap},
	} {
		if got := g.look(step.now); got != step.want {
			t.Errorf("step %d: %v leads to %d, not %d", i, step.now, got, step.want)
		}
	}
}
