package node_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
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

// recalled recalls images only.
type recalled func(eventlog.Stream) (entity.Restored[image.State], bool)

func (r recalled) Image(_ context.Context, s eventlog.Stream) (entity.Restored[image.State], bool) {
	return r(s)
}

func (recalled) Sandbox(context.Context, eventlog.Stream) (at entity.Restored[sandbox.State], known bool) {
	return at, false
}

func (recalled) Container(context.Context, eventlog.Stream) (at entity.Restored[container.State], known bool) {
	return at, false
}

// An image reference's actor starts at the end of the stream without reading it, and
// never behind the actor before.
func TestImagesAreRecalled(t *testing.T) {
	d := newDrivers(t)
	n, err := node.New(node.Config{
		Log: unread{d.log, t}, Executor: d, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Recall: recalled(func(s eventlog.Stream) (entity.Restored[image.State], bool) { return endOf(d.log, s), true }),
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
		Recall: recalled(func(eventlog.Stream) (entity.Restored[image.State], bool) {
			return entity.Restored[image.State]{Version: 7}, false
		}),
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

// Who rests has no actor, and the next command finds it as it was.
func TestRestingEntitiesSleep(t *testing.T) {
	d := newDrivers(t)
	models := &states{machines: node.NewMachines(d), log: d.log}
	n, err := node.New(node.Config{Log: d.log, Executor: d, Recall: models, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.node = n
	t.Cleanup(func() { n.Close(t.Context()) })
	if err := n.Boot(t.Context(), restore(t, d.log), startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	s, err := n.RunSandbox(t.Context(), runOf("p"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.CreateContainer(t.Context(), createOf(s.ID, "c"))
	if err != nil {
		t.Fatal(err)
	}
	// An entity that gets a command before it has gone stays.
	for i := 0; models.containers.Load() < 3; i++ {
		n.Doze()
		n.Doze()
		time.Sleep(time.Duration(i) * time.Millisecond)
		if _, err := n.Container(t.Context(), c.ID, container.ReportLoss{Bytes: 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// The name is still taken, by the same one.
	for i := 0; models.sandboxes.Load() < 3; i++ {
		n.Doze()
		n.Doze()
		time.Sleep(time.Duration(i) * time.Millisecond)
		if again, err := n.RunSandbox(t.Context(), runOf("p")); err != nil || again.ID != s.ID {
			t.Fatalf("the name leads to %q, not %q: %v", again.ID, s.ID, err)
		}
	}
	if _, err := n.Sandbox(t.Context(), s.ID, sandbox.Remove{}, sandbox.RemoveAnswer); err != nil {
		t.Error(err)
	}
}

// states recalls what the log says.
type states struct {
	machines              node.Machines
	log                   eventlog.Log
	sandboxes, containers atomic.Int64
}

func (x *states) Sandbox(ctx context.Context, s eventlog.Stream) (entity.Restored[sandbox.State], bool) {
	x.sandboxes.Add(1)
	at, err := entity.Restore(ctx, x.machines.Sandboxes, x.log, s)
	return at, err == nil
}

func (x *states) Container(ctx context.Context, s eventlog.Stream) (entity.Restored[container.State], bool) {
	x.containers.Add(1)
	at, err := entity.Restore(ctx, x.machines.Containers, x.log, s)
	return at, err == nil
}

func (*states) Image(context.Context, eventlog.Stream) (at entity.Restored[image.State], known bool) {
	return at, false
}
