package projections

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// An index lists in creation order what was put and not removed, and no list that was
// handed out ever changes.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex[id.Sandbox, *Sandbox]()
		want := map[id.Sandbox]*Sandbox{}
		type lent struct{ list, was []*Sandbox }
		var handedOut []lent
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			// Creation order is not that of ids, and some have the same time.
			n := rapid.IntRange(0, 9).Draw(t, "which")
			name := id.Sandbox(fmt.Sprint("s", n))
			switch rapid.SampledFrom([]string{"put", "put", "remove", "list"}).Draw(t, "step") {
			case "put":
				now := &Sandbox{Restored: entity.Restored[sandbox.State]{
					State:   sandbox.State{ID: name, CreatedAt: epoch.Add(time.Duration(n*7%5) * time.Second)},
					Version: eventlog.Version(rapid.Uint64().Draw(t, "version")),
				}}
				x.put(name, now)
				want[name] = now
			case "remove":
				x.remove(name)
				delete(want, name)
			case "list":
				list := x.sorted.all()
				handedOut = append(handedOut, lent{list, slices.Clone(list)})
			}
			sorted := slices.SortedFunc(maps.Values(want), func(a, b *Sandbox) int {
				return cmp.Or(a.State.CreatedAt.Compare(b.State.CreatedAt), cmp.Compare(a.State.ID, b.State.ID))
			})
			if !slices.Equal(sorted, x.sorted.items) || !maps.Equal(want, x.byID) {
				t.Fatalf("listed as %v, want %v", x.sorted.items, sorted)
			}
			for _, l := range handedOut {
				if !slices.Equal(l.list, l.was) {
					t.Fatalf("a list that was handed out has changed from %v to %v", l.was, l.list)
				}
			}
		}
	})
}

// Readers, the feed and who packs do not disturb each other (the race detector watches).
func TestReadersBesideTheFeed(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	running(t, f)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			all := f.Live.Sandboxes()
			if !slices.IsSortedFunc(all, func(a, b *Sandbox) int { return a.rank().compare(b.rank()) }) {
				t.Error("a list is out of order")
			}
			f.Live.ContainersOf("s")
			f.Pack()
		}
	}()
	for i := range 200 {
		name := fmt.Sprint(i)
		if err := newSandbox(name).do(log, runOf(name, epoch.Add(time.Duration(i%7)*time.Second))); err != nil {
			t.Fatal(err)
		}
		if err := newContainer(name).do(log, createOf(name, "s", epoch.Add(time.Duration(i%5)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Await(t.Context(), log.Last()); err != nil {
		t.Fatal(err)
	}
	close(done)
	<-ended
	if n := len(f.Live.ContainersOf("s")); n != 200 {
		t.Errorf("the sandbox has %d containers", n)
	}
}
