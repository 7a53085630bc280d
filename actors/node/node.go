package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Config holds the parts of a node.
type Config struct {
	Log      eventlog.Log
	Executor Executor
	// Await returns once the projections include a record of the log, so that a
	// caller finds its answer in List. It may be nil.
	Await func(context.Context, eventlog.Sequence) error
	// Recall returns the projections' states; nil if there are none.
	Recall Recall
	Logger *slog.Logger
}

// Recall returns the projections' state at the end of a stream; see entity.Machine.Recall.
type Recall interface {
	Sandbox(context.Context, eventlog.Stream) (entity.Restored[sandbox.State], bool)
	Container(context.Context, eventlog.Stream) (entity.Restored[container.State], bool)
	Image(context.Context, eventlog.Stream) (entity.Restored[image.State], bool)
}

// dozeEvery is how often entities that rest may go. An entity goes after one to two of it.
const dozeEvery = 15 * time.Second

// dozeAtOnce is how many entities are asked together whether they rest, and dozePause is after how
// long the next ones are: each that is asked gets a goroutine, whose descriptor the Go runtime keeps
// for ever.
const (
	dozeAtOnce = 16
	dozePause  = 5 * time.Millisecond
)

// Node is the root of the actors: a Core on protoactor, whose calls wait for their
// answers.
type Node struct {
	logger *slog.Logger
	core   *Core
	await  func(context.Context, eventlog.Sequence) error

	// stop ends the effects under way.
	context context.Context
	stop    context.CancelFunc
	effects effects
	held    atomic.Int64
	// shutDown ends the actors, once.
	shutDown func()
}

// New returns a node without any entity. Boot restores its past.
func New(c Config) (*Node, error) {
	n := &Node{logger: c.Logger, await: c.Await}
	if n.await == nil {
		n.await = func(context.Context, eventlog.Sequence) error { return nil }
	}
	n.context, n.stop = context.WithCancel(context.Background())
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(warnings{c.Logger.With("component", "actors").Handler()})
	}))
	narrow(system.ProcessRegistry)
	// An entity handles its own panics; if it fails nevertheless, it is stopped, and the
	// router makes a new one from its stream.
	stopFailed := actor.NewOneForOneStrategy(0, 0, func(any) actor.Directive { return actor.StopDirective })
	props := actor.PropsFromProducer(func() actor.Actor {
		r := &root{refs: map[string]*actor.PID{}}
		r.router = NewRouter(c.Logger, r)
		return r
	}, actor.WithSupervisor(stopFailed))
	router, err := system.Root.SpawnNamed(props, "node")
	if err != nil {
		return nil, fmt.Errorf("spawn the root actor: %w", err)
	}
	n.core = NewCore(func(message any) { system.Root.Send(router, message) }, NewMachines(c.Executor), entity.Surroundings{
		Log: c.Log, Logger: c.Logger, Context: n.context, Now: time.Now,
		Go:    func(_ string, f func()) { n.effects.Go(f) },
		After: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
		Held:  func(d time.Duration) { n.held.Add(int64(d)) },
	})
	if c.Recall != nil {
		n.core.sandboxes.Recall, n.core.containers.Recall, n.core.images.Recall = c.Recall.Sandbox, c.Recall.Container, c.Recall.Image
	}
	dozing := make(chan struct{})
	go func() {
		defer close(dozing)
		n.doze()
	}()
	n.shutDown = sync.OnceFunc(func() {
		<-dozing
		// Stopping the root stops its children; Shutdown alone would stop none.
		if err := system.Root.StopFuture(router).Wait(); err != nil {
			n.logger.Warn("the node's actors have not ended", "error", err)
		}
		system.Shutdown()
	})
	return n, nil
}

// narrow leaves one of the registry's 1024 parts, each of 32 maps: they take 2.8 MiB when empty,
// and a map keeps the room of its first entry. Actors are found by their pids, which remember
// where they lead.
func narrow(registry *actor.ProcessRegistryValue) {
	parts := &registry.LocalPIDs.LocalPIDs
	only := (*parts)[0]
	for _, part := range (*parts)[1:] {
		part.IterCb(only.Set) // Items would begin a goroutine for each of the maps, which takes 40 ms.
	}
	*parts = slices.Clone((*parts)[:1])
}

// Boot records the start of the daemon and restores the node's past; see Core.Resume.
func (n *Node) Boot(ctx context.Context, past entity.Past, start host.StartDaemon) error {
	_, err := await(ctx, n, nil, func(from Caller[host.State, host.Event]) {
		n.core.Boot(past, start, func(err error) { from.Reply(entity.Reply[host.State]{Err: err}) })
	})
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("record the daemon's start: %w", err)
		}
		// A damaged record of the node's stream is no reason to leave the pods alone.
		n.logger.Error("the daemon's start is not recorded", "error", err)
	}
	n.core.Resume(past, start)
	return nil
}

// Pack has the node keep what it knows of entities in few large pieces of memory; see Core.Pack.
func (n *Node) Pack() { n.core.Pack() }

// doze lets entities at rest go, until the node stops.
func (n *Node) doze() {
	tick := time.NewTicker(dozeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.core.Doze()
		case <-n.context.Done():
			return
		}
	}
}

// Held is how long, in all, callers or effects waited for the event log.
func (n *Node) Held() time.Duration { return time.Duration(n.held.Load()) }

// Close stops the node. No new effect begins; those under way have until ctx is done to
// end by themselves, then they are cancelled. Their work stays owed. Nothing of the node
// runs when Close returns; a second call does nothing more.
func (n *Node) Close(ctx context.Context) {
	ended := n.effects.close()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	n.stop()
	<-ended
	n.shutDown()
}

// Sandbox brings a command to a sandbox and waits for its answer. If there is no such
// sandbox, it returns a NotFound fault.
func (n *Node) Sandbox(ctx context.Context, s id.Sandbox, c sandbox.Command, until func(sandbox.State, sandbox.Event) (bool, error)) (sandbox.State, error) {
	return await(ctx, n, until, func(from Caller[sandbox.State, sandbox.Event]) { n.core.Sandbox(s, c, from) })
}

// Container brings a command to a container and waits for its answer. If there is no
// such container, it returns a NotFound fault.
func (n *Node) Container(ctx context.Context, x id.Container, c container.Command, until func(container.State, container.Event) (bool, error)) (container.State, error) {
	return await(ctx, n, until, func(from Caller[container.State, container.Event]) { n.core.Container(x, c, from) })
}

// Image brings a command to an image reference and waits for its answer.
func (n *Node) Image(ctx context.Context, ref string, c image.Command, until func(image.State, image.Event) (bool, error)) (image.State, error) {
	return await(ctx, n, until, func(from Caller[image.State, image.Event]) { n.core.Image(ref, c, from) })
}

// Host records an event of the node itself.
func (n *Node) Host(ctx context.Context, c host.Command) error {
	_, err := await(ctx, n, nil, func(from Caller[host.State, host.Event]) {
		// No caller looks for it in a projection.
		n.core.Host(c, Caller[host.State, host.Event]{Gone: from.Gone, Reply: func(r entity.Reply[host.State]) {
			from.Reply(entity.Reply[host.State]{Err: r.Err})
		}})
	})
	return err
}

// RunSandbox creates a sandbox, or joins the one that has its name.
func (n *Node) RunSandbox(ctx context.Context, run sandbox.Run) (sandbox.State, error) {
	return await(ctx, n, nil, func(from Caller[sandbox.State, sandbox.Event]) { n.core.RunSandbox(run, from) })
}

// CreateContainer creates a container in its sandbox, or joins the one that has
// its name.
func (n *Node) CreateContainer(ctx context.Context, create container.Create) (container.State, error) {
	return await(ctx, n, nil, func(from Caller[container.State, container.Event]) { n.core.CreateContainer(create, from) })
}

// Exited records the exit of a container's init or of a sandbox's holder; process says
// which one, as far as the monitor knows. It returns once that is durable, or if no
// entity needs it.
func (n *Node) Exited(ctx context.Context, name string, process container.Process, exit container.Exit) error {
	_, err := await(ctx, n, nil, func(from Caller[struct{}, struct{}]) {
		n.core.Exited(name, process, exit, func(err error) { from.Reply(entity.Reply[struct{}]{Err: err}) })
	})
	return err
}
