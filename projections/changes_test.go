package projections

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// publishSome publishes changes of records, starting with the given one. Every third
// record changes nothing.
func publishSome(c *Changes, from, through eventlog.Sequence) {
	for s := from; s <= through; s++ {
		if s%3 == 0 {
			c.publish(s, nil)
			continue
		}
		c.publish(s, &Change{Record: eventlog.Record{Sequence: s}})
	}
}

// followed is what a follower got until it was asked to stop: sequences, and the end of
// what it missed as a negative number.
func followed(c *Changes, after eventlog.Sequence, until func(got []int) bool) (got []int, err error) {
	for change, err := range c.Follow(context.Background(), after) {
		if missed, is := errors.AsType[*MissedError](err); is {
			got = append(got, -int(missed.Through))
		} else if err != nil {
			return got, err
		} else {
			got = append(got, int(change.Record.Sequence))
		}
		if until(got) {
			return got, nil
		}
	}
	return got, nil
}

// A follower gets every change behind a sequence, once and in order, and is told once
// and exactly what is no longer kept.
func TestFollow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChanges()
		begin := eventlog.Sequence(rapid.IntRange(0, 10).Draw(t, "begin"))
		c.begin(begin)
		last := begin + eventlog.Sequence(rapid.SampledFrom([]int{0, 1, 5, changesAtOnce, changesKept, 3 * changesKept}).Draw(t, "records"))
		publishSome(c, begin+1, last)
		c.end(eventlog.ErrClosed)

		var kept []int
		for s := begin + 1; s <= last; s++ {
			if s%3 != 0 {
				kept = append(kept, int(s))
			}
		}
		forgotten := int(begin)
		if n := len(kept) - changesKept; n > 0 {
			forgotten, kept = kept[n-1], kept[n:]
		}
		after := rapid.IntRange(0, int(last)+1).Draw(t, "after")
		var want []int
		if after < forgotten {
			want = append(want, -forgotten)
		}
		for _, s := range kept {
			if s > after {
				want = append(want, s)
			}
		}
		got, err := followed(c, eventlog.Sequence(after), func([]int) bool { return false })
		if !errors.Is(err, eventlog.ErrClosed) || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("after %d of %d to %d: %v, %v, want %v", after, begin, last, got, err, want)
		}
	})
}

// A slow follower holds nobody up: it misses changes, is told so, and resumes.
func TestSlowFollower(t *testing.T) {
	c := newChanges()
	publishSome(c, 1, 2)
	got, err := followed(c, 0, func(got []int) bool {
		if len(got) == 1 { // while it handles the first one
			publishSome(c, 3, 4*changesKept)
		}
		return got[len(got)-1] == 4*changesKept-1 || got[len(got)-1] == 4*changesKept
	})
	if err != nil {
		t.Fatal(err)
	}
	// The two that it already had, the miss, and all that are kept.
	if len(got) != 3+changesKept || got[0] != 1 || got[1] != 2 || got[2] >= 0 || got[3] <= -got[2] {
		t.Errorf("%d, begun with %v", len(got), got[:min(5, len(got))])
	}
}

func TestFollowerThatLeaves(t *testing.T) {
	c := newChanges()
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		for _, err := range c.Follow(ctx, 0) {
			waits <- err
		}
		close(waits)
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("a follower that leaves: %v", err)
	}
	if err, more := <-waits; more {
		t.Errorf("behind the last error: %v", err)
	}
}

// The feed's changes add up to the model: each begins where the stream's previous one
// ended, and the last ones are what is live.
func TestChangesLeadToTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		n.walk(t, 20)
		f := opened(t, log)
		began := log.Last()
		before := f.Live.Past()
		n.walk(t, 60)
		for r := range log.Read(context.Background(), began+1) {
			f.Changes.publish(r.Sequence, f.take(r))
		}
		f.Changes.end(eventlog.ErrClosed)
		for change, err := range f.Changes.Follow(context.Background(), began) {
			if err != nil {
				break
			}
			place := change.Record.Version
			switch what := change.What.(type) {
			case SandboxChanged:
				at, there := before.Sandboxes[what.After.State.ID]
				if there != (what.Before != nil) || there && at.Version != what.Before.Version || what.After.Version != place ||
					what.Ended != sandbox.Ended(what.After.State) || what.Event == nil {
					t.Fatalf("%v does not follow %v", change, at)
				}
				before.Sandboxes[what.After.State.ID] = what.After.Restored
				if what.Ended {
					delete(before.Sandboxes, what.After.State.ID)
				}
			case ContainerChanged:
				at, there := before.Containers[what.After.State.ID]
				if there != (what.Before != nil) || there && at.Version != what.Before.Version || what.After.Version != place ||
					what.Ended != container.Ended(what.After.State) || what.Event == nil {
					t.Fatalf("%v does not follow %v", change, at)
				}
				before.Containers[what.After.State.ID] = what.After.Restored
				if what.Ended {
					delete(before.Containers, what.After.State.ID)
				}
			case ImageChanged:
				before.Images[what.After.State.Ref] = *what.After
				if what.Idle {
					delete(before.Images, what.After.State.Ref)
				}
				if what.Before.Version+1 != place || what.After.Version != place || what.Event == nil {
					t.Fatalf("%v does not follow", change)
				}
			case HostChanged:
				if *what.Before != before.Host || what.After.Version != place || what.Event == nil {
					t.Fatalf("%v does not follow %v", change, before.Host)
				}
				before.Host = *what.After
			case StreamPutAside:
				t.Fatalf("put aside: %s", what.Reason)
			}
		}
		samePast(t, before, f.Live.Past())
	})
}
