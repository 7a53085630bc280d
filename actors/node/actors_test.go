package node

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// stageOf runs functions in an actor that is a root.
type stageOf struct{ *root }

// Receive implements actor.Actor.
func (s stageOf) Receive(ctx actor.Context) {
	switch f := ctx.Message().(type) {
	case func():
		s.ctx = ctx
		f()
	default:
		s.root.Receive(ctx)
	}
}

// An actor that has ended leaves its pid with the library, and no more.
func TestEndedActors(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }))
	defer system.Shutdown()
	narrow(system.ProcessRegistry)
	r := &root{refs: map[string]*actor.PID{}}
	r.router = NewRouter(slog.New(slog.DiscardHandler), r)
	pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return stageOf{r} }))
	defer func() { _ = system.Root.StopFuture(pid).Wait() }()
	within := func(f func()) {
		done := make(chan struct{})
		system.Root.Send(pid, func() { f(); close(done) })
		<-done
	}
	const count = 100
	var pids []*actor.PID
	within(func() {
		for i := range count {
			ref, err := r.Spawn(fmt.Sprint("an actor ", i), idle{})
			if err != nil {
				t.Error(err)
				return
			}
			r.Send(ref, "a message")
			pids = append(pids, r.refs[ref.(string)])
		}
	})
	processes := func() (n int) {
		for _, pid := range pids {
			if !reflect.ValueOf(pid).Elem().FieldByName("p").IsNil() {
				n++
			}
		}
		return n
	}
	if n := processes(); n != count {
		t.Fatalf("%d of %d pids have their process", n, count)
	}
	within(func() {
		for ref := range r.refs {
			r.Stop(ref)
		}
	})
	for left := count; left > 0; {
		within(func() { left = len(r.refs) })
	}
	if n := processes(); n > 0 {
		t.Errorf("%d pids keep the process of an actor that has ended", n)
	}
}

// What the library registers for itself is found in a narrow registry, and an empty one is small.
func TestNarrow(t *testing.T) {
	system := actor.NewActorSystem()
	defer system.Shutdown()
	count := func() (n int) {
		for _, part := range system.ProcessRegistry.LocalPIDs.LocalPIDs {
			n += part.Count()
		}
		return n
	}
	before := count()
	narrow(system.ProcessRegistry)
	if parts := len(system.ProcessRegistry.LocalPIDs.LocalPIDs); parts != 1 || count() != before {
		t.Errorf("%d of %d processes are left, in %d parts", count(), before, parts)
	}
	if _, found := system.ProcessRegistry.GetLocal("eventstream"); !found {
		t.Error("the event stream's process is not found")
	}
}

// idle is an entity that does nothing.
type idle struct{}

func (idle) Start(func(any)) {}
func (idle) Receive(any)     {}
func (idle) Stop()           {}
