package node_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// unread is a log whose image streams nobody may read.
type unread struct {
	*memlog.Log
	t *testing.T
}

func (u unread) ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error] {
	if strings.HasPrefix(string(s), "image/") {
		u.t.Errorf("%s is read", s)
	}
	return u.Log.ReadStream(ctx, s, from)
}

// endOf returns where a stream ends: all that a projection keeps of an idle reference.
func endOf(log eventlog.Reader, s eventlog.Stream) (at entity.Restored[image.State]) {
	for r := range log.ReadStream(context.Background(), s, 1) {
		at = entity.As(r, image.State{})
	}
	return at
}

// An image reference's actor starts at the end of the stream without reading it, and
// never behind the actor before.
func TestImagesAreRecalled(t *testing.T) {
	d := newDrivers(t)
	n, err := node.New(node.Config{
		Log: unread{d.log, t}, Executor: d, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		RecallImage: func(_ context.Context, s eventlog.Stream) (entity.Restored[image.State], bool) {
			return endOf(d.log, s), true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.node = n
	t.Cleanup(func() { n.Close(t.Context()) })
	if err := n.Boot(t.Context(), restore(t, d.log), startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for j := range 40 {
				pull := id.Pull(fmt.Sprint(i, " ", j))
				s, err := n.Image(t.Context(), "ref", image.RequestPull{Ref: "ref", Pull: pull}, image.PullAnswer(pull))
				if err != nil || s.Last.ImageID != "of ref" {
					t.Errorf("pull %s: %v, %+v", pull, err, s.Last)
				}
			}
		})
	}
	callers.Wait()
	if pulled := len(types(t, d.log, "")); pulled != 1+2*8*40 {
		t.Errorf("%d events are recorded", pulled)
	}
}

// If nothing is recalled, the stream is read.
func TestImageThatIsNotRecalled(t *testing.T) {
	d := newDrivers(t)
	n, err := node.New(node.Config{
		Log: d.log, Executor: d, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		RecallImage: func(context.Context, eventlog.Stream) (entity.Restored[image.State], bool) {
			return entity.Restored[image.State]{Version: 7}, false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.node = n
	t.Cleanup(func() { n.Close(t.Context()) })
	if err := n.Boot(t.Context(), restore(t, d.log), startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		pull := id.Pull(fmt.Sprint(i))
		if _, err := n.Image(t.Context(), "ref", image.RequestPull{Ref: "ref", Pull: pull}, image.PullAnswer(pull)); err != nil {
			t.Error(err)
		}
	}
}
