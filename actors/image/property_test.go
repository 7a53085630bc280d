package image_test

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/machinetest"
)

type walk = machinetest.Walk[image.State, image.Command, image.Event, image.Effect]

// An image reference has no final state, and any state may owe nothing.
var rules = machinetest.Rules[image.State, image.Command, image.Event, image.Effect]{
	Machine:  underTest,
	Call:     call,
	Outcome:  outcome,
	Nature:   func(image.State, time.Time) (image.Command, bool) { return nil, false },
	Final:    func(image.State) bool { return false },
	Outlives: func(image.Effect) bool { return false },
	Waits:    func(image.State) bool { return true },
	Hold:     hold,
}

func call(t *rapid.T, w *walk) image.Command {
	if command, so := news(t, w); so {
		return command
	}
	const ref = "docker.io/library/nginx:1"
	if rapid.Bool().Draw(t, "pull") {
		pull := id.Pull(rapid.SampledFrom([]string{"anonymous", "alice", "bob"}).Draw(t, "credentials"))
		return image.RequestPull{Ref: ref, Pull: pull, At: w.Now}
	}
	if rapid.Bool().Draw(t, "load") {
		return image.RequestLoad{Ref: ref, Load: id.Load(rapid.SampledFrom([]string{"l1", "l2"}).Draw(t, "load id")), At: w.Now}
	}
	return image.Remove{Ref: ref}
}

// news is what the puller can report of a pull under way.
func news(t *rapid.T, w *walk) (image.Command, bool) {
	pulls := slices.Sorted(maps.Keys(w.Life.State.Pulls))
	if len(pulls) == 0 || !rapid.Bool().Draw(t, "news") {
		return nil, false
	}
	pull := rapid.SampledFrom(append(pulls, "nobody's")).Draw(t, "pull")
	if rapid.Bool().Draw(t, "resolved") {
		return image.NoteResolved{Pull: pull, Resolved: image.Resolved{Digest: "sha256:cd", Layers: 2, Bytes: 1000}}, true
	}
	return image.NoteLayer{Pull: pull, Layer: image.Layer{Digest: "sha256:1a", Bytes: 500}}, true
}

func outcome(f image.Effect, now time.Time) image.Command {
	switch f := f.(type) {
	case image.FetchImage:
		return image.FetchImageDone{Pull: f.Pull, ImageID: "sha256:ab", Digest: "sha256:cd", Bytes: 1000}
	case image.LoadImages:
		return image.LoadImagesDone{Load: f.Load, Images: []image.Loaded{{Name: "localhost/a:1", ImageID: "sha256:ab"}}}
	}
	return f.Failed(nil, now)
}

func hold(t machinetest.TB, w *walk) {
	t.Helper()
	s := w.Life.State
	if image.Ended(s) != (len(image.Owed(s)) == 0) {
		t.Fatalf("ended, but %s is owed\n%s", machinetest.Describe(image.Owed(s)), w.Life.History())
	}
	for _, a := range w.Answered {
		if _, pull := a.Command.(image.RequestPull); pull && (a.Err == nil) != (a.At.Last.ImageID != "") {
			t.Fatalf("%s was answered with %v, but the last pull was %s\n%s",
				machinetest.Describe(a.Command), a.Err, machinetest.Describe(a.At.Last), w.Life.History())
		}
	}
}

// Projections forget what was of an idle reference: whatever comes later must be as if
// it had never been.
func TestIdleIsForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		commands := rapid.Custom(func(t *rapid.T) image.Command {
			pull := id.Pull(rapid.SampledFrom([]string{"p1", "p2"}).Draw(t, "pull"))
			load := id.Load(rapid.SampledFrom([]string{"l1", "l2"}).Draw(t, "load"))
			var err error
			if rapid.Bool().Draw(t, "fails") {
				err = errors.New("broken")
			}
			return rapid.SampledFrom([]image.Command{
				image.RequestPull{Ref: "r", Pull: pull}, image.RequestLoad{Ref: "r", Load: load}, image.Remove{Ref: "r"},
				image.NoteResolved{Pull: pull, Resolved: image.Resolved{Layers: 2}}, image.NoteLayer{Pull: pull},
				image.FetchImageDone{Pull: pull, ImageID: "i", Err: err}, image.DeleteImageDone{Err: err},
				image.LoadImagesDone{Load: load, Images: []image.Loaded{{ImageID: "i"}}, Err: err},
			}).Draw(t, "command")
		})
		var whole, forgotten image.State
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := commands.Draw(t, "command")
			events, err := image.Decide(whole, c)
			again, errAgain := image.Decide(forgotten, c)
			if !reflect.DeepEqual(events, again) || !reflect.DeepEqual(err, errAgain) {
				t.Fatalf("%T leads to %+v, %v, and without what was before to %+v, %v", c, events, err, again, errAgain)
			}
			for _, e := range events {
				whole, forgotten = image.Evolve(whole, e), image.Evolve(forgotten, e)
			}
			if !reflect.DeepEqual(whole, forgotten) && !image.Ended(whole) {
				t.Fatalf("the state is %+v, and without what was before %+v", whole, forgotten)
			}
			if image.Ended(whole) {
				forgotten = image.State{}
			}
		}
	})
}

func TestLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Lives(t, rules, 60) })
}

func TestStrays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Strays(t, rules, 40) })
}

func TestEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { machinetest.Events(t, underTest, 40) })
}
