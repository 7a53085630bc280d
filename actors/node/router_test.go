package node

import (
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/fault"
)

// A container whose sandbox is stopped before its creation arrives never comes to be,
// once; a message that creates nothing is not there to be barred.
func TestBarred(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	defer system.Shutdown()
	router := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return newRouter(quiet) }))
	defer func() { _ = system.Root.StopFuture(router).Wait() }()
	refused := make(chan error, 1)
	send := func(d deliver) {
		d.stream, d.refuse = "container/c", func(err error) { refused <- err }
		system.Root.Send(router, &d)
	}
	born := make(chan struct{})
	spawn := func() *actor.Props {
		return actor.PropsFromFunc(func(ctx actor.Context) {
			if _, started := ctx.Message().(*actor.Started); started {
				close(born)
			}
		})
	}

	send(deliver{message: "stop", barFor: "sandbox/s"})
	if err := <-refused; fault.KindOf(err) != fault.NotFound {
		t.Errorf("stopping what is not there gave %v", err)
	}
	send(deliver{message: "create", creates: true, spawn: spawn})
	if err := <-refused; fault.KindOf(err) != fault.Precondition {
		t.Errorf("creating what is barred gave %v", err)
	}
	send(deliver{message: "create", creates: true, spawn: spawn})
	<-born
}
