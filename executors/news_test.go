package executors

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/registry"
)

// What is worth remembering of a pull is in the log, in order, before the pull's
// outcome; how far a layer is, only Pulls knows. A log that fails holds up nothing.
func TestNews(t *testing.T) {
	var recorded []image.Command
	x := New(Config{
		Pulls: handover.NewPulls(), Logger: slog.New(slog.DiscardHandler),
		ImageNews: func(_ context.Context, ref string, c image.Command) error {
			recorded = append(recorded, c)
			return errors.New("the disk is full")
		},
	})
	x.Pulls.Begin("web:1", "p")
	n := x.fetcher.newsOf(t.Context(), image.FetchImage{Ref: "web:1", Pull: "p"})
	for _, e := range []registry.Event{
		registry.Resolved{Digest: "sha256:1", Layers: 2, Bytes: 9},
		registry.LayerProgress{Digest: "sha256:a", Offset: 3, Size: 5},
		registry.LayerDone{Digest: "sha256:a", Bytes: 5},
		registry.LayerDone{Digest: "sha256:b", Bytes: 4, Present: true},
	} {
		n.take(e)
	}
	n.end()
	want := []image.Command{
		image.NoteResolved{Pull: "p", Resolved: image.Resolved{Digest: "sha256:1", Layers: 2, Bytes: 9}},
		image.NoteLayer{Pull: "p", Layer: image.Layer{Digest: "sha256:a", Bytes: 5}},
		image.NoteLayer{Pull: "p", Layer: image.Layer{Digest: "sha256:b", Bytes: 4, Present: true}},
	}
	if !reflect.DeepEqual(recorded, want) {
		t.Errorf("recorded %+v, want %+v", recorded, want)
	}
	if got := x.Pulls.Transferred("p"); got != 9 {
		t.Errorf("%d bytes transferred, want 9", got)
	}
}
