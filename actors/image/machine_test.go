package image_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/machinetest"
)

var underTest = machinetest.Machine[image.State, image.Command, image.Event, image.Effect]{
	Decide:   image.Decide,
	Evolve:   image.Evolve,
	Owed:     image.Owed,
	Failed:   image.Effect.Failed,
	Describe: describe,
	Answer:   answer,
	Commands: []image.Command{image.RequestPull{}, image.RequestLoad{}, image.LoadImagesDone{}, image.Remove{}, image.NoteResolved{}, image.NoteLayer{}, image.FetchImageDone{}, image.DeleteImageDone{}},
	Events: []image.Event{
		image.PullRequested{}, image.ImageResolved{}, image.LayerFetched{}, image.ImagePulled{}, image.PullFailed{},
		image.LoadRequested{}, image.ImagesLoaded{}, image.LoadFailed{},
		image.RemoveRequested{}, image.ImageRemoved{}, image.RemoveFailed{},
	},
	Effects: []image.Effect{image.FetchImage{}, image.LoadImages{}, image.DeleteImage{}},
}

func describe(s image.State) string {
	switch {
	case len(s.Pulls) > 0 && s.Removing:
		return fmt.Sprint("pulling ", slices.Sorted(maps.Keys(s.Pulls)), ", removing")
	case len(s.Pulls) > 0:
		return fmt.Sprint("pulling ", slices.Sorted(maps.Keys(s.Pulls)))
	case len(s.Loads) > 0:
		return fmt.Sprint("loading ", slices.Sorted(maps.Keys(s.Loads)))
	case s.Removing:
		return "removing"
	}
	return "idle"
}

func answer(c image.Command) machinetest.Answer[image.State, image.Event] {
	switch c := c.(type) {
	case image.RequestPull:
		return image.PullAnswer(c.Pull)
	case image.RequestLoad:
		return image.LoadAnswer(c.Load)
	case image.Remove:
		return image.RemoveAnswer
	}
	return nil
}

func TestTraces(t *testing.T) { machinetest.Traces(t, underTest) }

func TestOutcomes(t *testing.T) { machinetest.Outcomes(t, underTest) }
