package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Executor carries out the effects of the machines. Each method blocks until
// the effect is done and returns its outcome.
type Executor interface {
	Sandbox(context.Context, sandbox.Effect) sandbox.Command
	Container(context.Context, container.Effect) container.Command
	Image(context.Context, image.Effect) image.Command
}

// Config is what a node is made of.
type Config struct {
	Log      eventlog.Log
	Executor Executor
	// Await returns once the projections have taken in a record of the log, so
	// that a caller finds in List what it was told. It may be nil.
	Await  func(context.Context, eventlog.Sequence) error
	Logger *slog.Logger
}

// Restored holds the states of everything that has not ended, as a projection
// read them from the log. The states are those at the end of the log.
type Restored struct {
	Sandboxes  map[id.Sandbox]entity.Restored[sandbox.State]
	Containers map[id.Container]entity.Restored[container.State]
	Images     map[string]entity.Restored[image.State]
	Host       entity.Restored[host.State]
}

// HostStream is the stream of the node's own events.
const HostStream eventlog.Stream = "node"

// Node is the root of the actors.
type Node struct {
	logger *slog.Logger
	log    eventlog.Log
	await  func(context.Context, eventlog.Sequence) error
	system *actor.ActorSystem
	router *actor.PID

	// stop ends the effects under way.
	context context.Context
	stop    context.CancelFunc
	effects effects
	held    atomic.Int64
	// shutDown ends the actors, once.
	shutDown func()

	sandboxes  *entity.Machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]
	containers *entity.Machine[container.State, container.Command, container.Event, container.Effect]
	images     *entity.Machine[image.State, image.Command, image.Event, image.Effect]
	host       *entity.Machine[host.State, host.Command, host.Event, noEffect]
}

// New returns a node without any entity. Boot gives it its past.
func New(c Config) (*Node, error) {
	n := &Node{logger: c.Logger, log: c.Log, await: c.Await}
	if n.await == nil {
		n.await = func(context.Context, eventlog.Sequence) error { return nil }
	}
	n.context, n.stop = context.WithCancel(context.Background())
	n.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(warnings{c.Logger.With("component", "actors").Handler()})
	}))
	n.sandboxes = &entity.Machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]{
		Kind: "sandbox", Decide: sandbox.Decide, Evolve: sandbox.Evolve, Owed: sandbox.Owed, Announced: sandbox.Announced, Volatile: sandbox.Volatile,
		Ended: sandbox.Ended, Free: sandbox.NameFree,
		Encode: codec.EncodeSandbox, Decode: codec.DecodeSandbox,
		Execute: func(ctx context.Context, f sandbox.Effect) sandbox.Command {
			return n.executeSandbox(ctx, c.Executor, f)
		},
		Failed: func(f sandbox.Effect, err error) sandbox.Command { return f.Failed(err, time.Now().UTC()) },
	}
	n.containers = &entity.Machine[container.State, container.Command, container.Event, container.Effect]{
		Kind: "container", Decide: container.Decide, Evolve: container.Evolve, Owed: container.Owed, Announced: container.Announced, Volatile: container.Volatile,
		Ended: container.Ended, Free: container.NameFree,
		Encode: codec.EncodeContainer, Decode: codec.DecodeContainer,
		Execute: c.Executor.Container,
		Failed:  func(f container.Effect, err error) container.Command { return f.Failed(err, time.Now().UTC()) },
	}
	n.images = &entity.Machine[image.State, image.Command, image.Event, image.Effect]{
		Kind: "image", Decide: image.Decide, Evolve: image.Evolve, Owed: image.Owed,
		Ended: image.Ended, Free: func(image.State) bool { return false },
		Encode: codec.EncodeImage, Decode: codec.DecodeImage,
		Execute: c.Executor.Image,
		Failed:  func(f image.Effect, err error) image.Command { return f.Failed(err, time.Now().UTC()) },
	}
	n.host = &entity.Machine[host.State, host.Command, host.Event, noEffect]{
		Kind: "node", Decide: host.Decide, Evolve: host.Evolve,
		Owed:  func(host.State) []noEffect { return nil },
		Ended: func(host.State) bool { return false }, Free: func(host.State) bool { return false },
		Encode: codec.EncodeHost, Decode: codec.DecodeHost,
	}
	// An entity handles its own panics; one that fails all the same is stopped,
	// and the router makes it anew from its stream.
	stopFailed := actor.NewOneForOneStrategy(0, 0, func(any) actor.Directive { return actor.StopDirective })
	props := actor.PropsFromProducer(func() actor.Actor { return newRouter(c.Logger) }, actor.WithSupervisor(stopFailed))
	var err error
	if n.router, err = n.system.Root.SpawnNamed(props, "node"); err != nil {
		return nil, fmt.Errorf("spawn the root actor: %w", err)
	}
	n.shutDown = sync.OnceFunc(func() {
		// Stopping the root stops its children; Shutdown alone would stop nobody.
		if err := n.system.Root.StopFuture(n.router).Wait(); err != nil {
			n.logger.Warn("the node's actors have not ended", "error", err)
		}
		n.system.Shutdown()
	})
	return n, nil
}

// noEffect is the effect of a machine that has none.
type noEffect struct{}

func (noEffect) Key() string          { return "" }
func (noEffect) Resource() string     { return "" }
func (noEffect) NotBefore() time.Time { return time.Time{} }

// Boot records the start of the daemon, claims the names of everything that has
// not ended, and spawns it; whatever it owes is issued at once. What has its last
// event from an earlier boot of the node learns first that the node was rebooted.
// (That the daemon before was of this boot says nothing: it may have ended before
// it had told everything.)
func (n *Node) Boot(ctx context.Context, past Restored, start host.StartDaemon) error {
	n.spawn(HostStream, entity.Props(n.host, n.around(nil), HostStream, &past.Host))
	if err := n.Host(ctx, start); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("record the daemon's start: %w", err)
		}
		// A damaged record of the node's stream is no reason to leave the pods alone.
		n.logger.Error("the daemon's start is not recorded", "error", err)
	}
	for sandboxID, at := range past.Sandboxes {
		stream := n.sandboxes.Stream(string(sandboxID))
		if !sandbox.NameFree(at.State) {
			n.claim(sandboxName(at.State.Name), stream)
		}
		var first []sandbox.Command
		if at.BootID != start.BootID {
			first = append(first, sandbox.NodeRebooted{})
		}
		n.spawn(stream, entity.Props(n.sandboxes, n.around(nil), stream, &at, first...))
	}
	for containerID, at := range past.Containers {
		stream := n.containers.Stream(string(containerID))
		if !container.NameFree(at.State) {
			n.claim(containerName(at.State.Sandbox, at.State.Name), stream)
		}
		around := n.around(n.forgetter(at.State.Sandbox, containerID))
		var first []container.Command
		if at.BootID != start.BootID {
			first = append(first, container.NodeRebooted{At: start.At})
		}
		n.spawn(stream, entity.Props(n.containers, around, stream, &at, first...))
	}
	for _, at := range past.Images {
		stream := n.images.Stream(imageKey(at.State.Ref))
		n.spawn(stream, entity.Props(n.images, n.around(nil), stream, &at))
	}
	n.forgetGone(past)
	n.removeStrays(past)
	return nil
}

// removeStrays removes containers that their sandboxes don't know, in case the daemon
// ended when the log had refused the sandbox's append and not the container's. A
// sandbox that is not there may be one whose stream is damaged: it is left alone.
func (n *Node) removeStrays(past Restored) {
	for c, at := range past.Containers {
		pod, there := past.Sandboxes[at.State.Sandbox]
		_, known := pod.State.Containers[c]
		if !there || known || container.NameFree(at.State) {
			continue
		}
		n.logger.Warn("a container that its sandbox does not know is removed", "container", string(c), "sandbox", string(at.State.Sandbox))
		n.tell(n.containers.Stream(string(c)), &entity.Ask[container.State, container.Command, container.Event]{Command: container.Remove{}})
	}
}

// tell brings a message to an entity, if it is there.
func (n *Node) tell(stream eventlog.Stream, message any) {
	n.system.Root.Send(n.router, &deliver{stream: stream, message: message, refuse: func(error) {}})
}

// Held is how long, in all, something was ready to go on and waited for the event log.
func (n *Node) Held() time.Duration { return time.Duration(n.held.Load()) }

// forgetGone tells sandboxes which of their containers are gone already, in
// case the daemon ended between the two appends.
func (n *Node) forgetGone(past Restored) {
	for sandboxID, at := range past.Sandboxes {
		for _, c := range at.State.ContainerIDs() {
			if was, there := past.Containers[c]; !there || container.NameFree(was.State) {
				n.forgetter(sandboxID, c)()
			}
		}
	}
}

// Close stops the node. No effect begins any more; those under way are given until
// ctx is done to end by themselves, then they are cancelled. What they would have
// done stays owed. Nothing of the node runs when Close returns; a second call
// does nothing more.
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

// Sandbox brings a command to a sandbox and waits for its answer. A sandbox
// that is not there is a NotFound fault.
func (n *Node) Sandbox(ctx context.Context, s id.Sandbox, c sandbox.Command, until func(sandbox.State, sandbox.Event) (bool, error)) (sandbox.State, error) {
	return shown[sandbox.State](ctx, n)(ask(ctx, n, n.sandboxes, c, until, deliver{stream: n.sandboxes.Stream(string(s))}))
}

// Container brings a command to a container and waits for its answer. A
// container that is not there is a NotFound fault.
func (n *Node) Container(ctx context.Context, c id.Container, cmd container.Command, until func(container.State, container.Event) (bool, error)) (container.State, error) {
	return shown[container.State](ctx, n)(ask(ctx, n, n.containers, cmd, until, deliver{stream: n.containers.Stream(string(c))}))
}

// Image brings a command to an image reference and waits for its answer.
func (n *Node) Image(ctx context.Context, ref string, c image.Command, until func(image.State, image.Event) (bool, error)) (image.State, error) {
	stream := n.images.Stream(imageKey(ref))
	return shown[image.State](ctx, n)(ask(ctx, n, n.images, c, until, deliver{stream: stream, spawn: func() *actor.Props {
		return entity.Props(n.images, n.around(nil), stream, nil)
	}}))
}

// Host records what happened to the node.
func (n *Node) Host(ctx context.Context, c host.Command) error {
	_, err := ask(ctx, n, n.host, c, nil, deliver{stream: HostStream})
	return err
}

// RunSandbox creates a sandbox, or joins the one that has its name.
func (n *Node) RunSandbox(ctx context.Context, run sandbox.Run) (sandbox.State, error) {
	stream := n.sandboxes.Stream(string(run.ID))
	owner, err := n.claimed(ctx, sandboxName(run.Name), stream)
	if err != nil {
		return sandbox.State{}, err
	}
	to := deliver{stream: owner}
	if owner == stream {
		to.spawn = func() *actor.Props {
			return entity.Props(n.sandboxes, n.around(nil), stream, &entity.Restored[sandbox.State]{})
		}
	} else {
		to.joins = true
	}
	return shown[sandbox.State](ctx, n)(ask(ctx, n, n.sandboxes, sandbox.Command(run), sandbox.RunAnswer, to))
}

// CreateContainer creates a container in its sandbox, or joins the one that has
// its name.
func (n *Node) CreateContainer(ctx context.Context, create container.Create) (container.State, error) {
	stream := n.containers.Stream(string(create.ID))
	owner, err := n.claimed(ctx, containerName(create.Sandbox, create.Name), stream)
	if err != nil {
		return container.State{}, err
	}
	if owner != stream {
		return shown[container.State](ctx, n)(ask(ctx, n, n.containers, container.Command(create), container.CreateAnswer, deliver{stream: owner, joins: true}))
	}
	added, err := n.addContainer(ctx, create.Sandbox, create.ID)
	if err != nil {
		n.system.Root.Send(n.router, &freed{stream})
		return container.State{}, err
	}
	forget := n.forgetter(create.Sandbox, create.ID)
	made, err := shown[container.State](ctx, n)(ask(ctx, n, n.containers, container.Command(create), container.CreateAnswer, deliver{
		stream: stream, creates: true,
		spawn: func() *actor.Props {
			return entity.Props(n.containers, n.around(forget), stream, &entity.Restored[container.State]{})
		},
	}))
	if fault.KindOf(err) == fault.Precondition {
		n.system.Root.Send(n.router, &freed{stream})
	}
	if addErr := added(); addErr != nil {
		// The log refused the one append and took the other.
		n.tell(stream, &entity.Ask[container.State, container.Command, container.Event]{Command: container.Remove{}})
		return container.State{}, addErr
	}
	return made, err
}

// addContainer tells a sandbox of a container that is about to be created. The sandbox
// learns of it first: from then on, stopping the sandbox stops the container, or bars
// it if it is not there yet. It returns once the sandbox has accepted it and its event
// is on its way to the log, before those of the container; added waits until it is
// there. The caller's impatience must not come between the two.
func (n *Node) addContainer(ctx context.Context, s id.Sandbox, c id.Container) (added func() error, err error) {
	accepted := make(chan struct{})
	durable := make(chan error, 1)
	go func() {
		_, err := ask(context.WithoutCancel(ctx), n, n.sandboxes, sandbox.Command(sandbox.AddContainer{Container: c}), nil, deliver{
			stream: n.sandboxes.Stream(string(s)), accepted: func() { close(accepted) },
		})
		durable <- err
	}()
	select {
	case <-accepted:
		return func() error { return <-durable }, nil
	case err := <-durable:
		return func() error { return nil }, err
	}
}

// Exited records that the init of a container, or the holder of a sandbox,
// ended; process is which, as far as the monitor knows. It returns once that is
// durable, or if nobody has use for it.
func (n *Node) Exited(ctx context.Context, name string, process container.Process, exit container.Exit) error {
	asContainer, asSandbox := n.containers.Stream(name), n.sandboxes.Stream(name)
	found, err := request(ctx, n, func(reply func(eventlog.Stream)) any {
		return &find{streams: []eventlog.Stream{asContainer, asSandbox}, found: reply}
	})
	if err != nil {
		return err
	}
	switch found {
	case asContainer:
		_, err = n.Container(ctx, id.Container(name), container.RecordExit{Exit: exit, Process: process}, nil)
	case asSandbox:
		_, err = n.Sandbox(ctx, id.Sandbox(name), sandbox.HolderExited{Code: exit.Code, At: exit.At}, nil)
	}
	if err != nil && fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// executeSandbox routes a sandbox's duties towards its containers as commands,
// and leaves everything else to the executor.
func (n *Node) executeSandbox(ctx context.Context, x Executor, f sandbox.Effect) sandbox.Command {
	switch f := f.(type) {
	case sandbox.StopContainer:
		_, err := ask(ctx, n, n.containers, container.Command(container.Stop{Request: "sandbox", At: time.Now()}), container.StopAnswer,
			deliver{stream: n.containers.Stream(string(f.Container)), barFor: n.sandboxes.Stream(string(f.Sandbox))})
		return sandbox.StopContainerDone{Container: f.Container, Err: unlessGone(err), At: time.Now()}
	case sandbox.RemoveContainer:
		_, err := n.Container(ctx, f.Container, container.Remove{}, container.RemoveAnswer)
		return sandbox.RemoveContainerDone{Container: f.Container, Err: unlessGone(err), At: time.Now()}
	default:
		return x.Sandbox(ctx, f)
	}
}

func unlessGone(err error) error {
	if err != nil && fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// forgetter returns what tells a sandbox that one of its containers is gone.
func (n *Node) forgetter(s id.Sandbox, c id.Container) func() {
	return func() { // a sandbox that is gone has forgotten
		n.tell(n.sandboxes.Stream(string(s)), &entity.Ask[sandbox.State, sandbox.Command, sandbox.Event]{Command: sandbox.ForgetContainer{Container: c}})
	}
}

// around returns a shell's surroundings; onFreed, if not nil, is called when
// the entity's name becomes free.
func (n *Node) around(onFreed func()) entity.Surroundings {
	return entity.Surroundings{
		Log: n.log, Logger: n.logger, Context: n.context, Go: n.effects.Go,
		Held: func(d time.Duration) { n.held.Add(int64(d)) },
		Ended: func(stream eventlog.Stream, self *actor.PID, handled uint64) {
			n.system.Root.Send(n.router, &ended{stream, self, handled})
		},
		Freed: func(stream eventlog.Stream) {
			n.system.Root.Send(n.router, &freed{stream})
			if onFreed != nil {
				onFreed()
			}
		},
		Quarantined: func(stream eventlog.Stream, reason error) {
			n.tell(HostStream, &entity.Ask[host.State, host.Command, host.Event]{
				Command: host.ReportQuarantine{Stream: string(stream), Reason: reason.Error()},
			})
		},
	}
}

func (n *Node) spawn(stream eventlog.Stream, props *actor.Props) {
	n.system.Root.Send(n.router, &deliver{
		stream: stream,
		spawn:  func() *actor.Props { return props },
		refuse: func(err error) {
			if !errors.Is(err, errStopping) {
				n.logger.Error("entity not restored", "stream", string(stream), "error", err)
			}
		},
	})
}

func (n *Node) claim(name string, stream eventlog.Stream) {
	n.system.Root.Send(n.router, &claim{name: name, stream: stream, owner: func(owner eventlog.Stream) {
		if owner != stream {
			n.logger.Error("two entities have one name", "name", name, "stream", string(stream), "owner", string(owner))
		}
	}})
}

func (n *Node) claimed(ctx context.Context, name string, stream eventlog.Stream) (eventlog.Stream, error) {
	// A claim is made or not, whatever becomes of the caller: the one who gets the
	// name must go on to use it.
	return request(context.WithoutCancel(ctx), n, func(reply func(eventlog.Stream)) any {
		return &claim{name: name, stream: stream, owner: reply}
	})
}

// request sends the router a message that answers through a function.
func request[T any](ctx context.Context, n *Node, message func(reply func(T)) any) (T, error) {
	answer := make(chan T, 1)
	n.system.Root.Send(n.router, message(func(t T) { answer <- t }))
	select {
	case t := <-answer:
		return t, nil
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	case <-n.context.Done():
		var none T
		return none, errStopping
	}
}

// ask sends a command along d and waits for the answer. The caller waits on a
// channel of its own: a future of the actor library would lose the answer of an
// actor that failed.
func ask[S, C, E any, F entity.Effect](ctx context.Context, n *Node, _ *entity.Machine[S, C, E, F], command C, until entity.Answer[S, E], d deliver) (entity.Reply[S], error) {
	answer := make(chan entity.Reply[S], 1)
	d.message = &entity.Ask[S, C, E]{
		Command: command, Until: until, Gone: ctx.Done(), Joins: d.joins,
		Reply: func(r entity.Reply[S]) { answer <- r }, Accepted: d.accepted,
	}
	d.refuse = func(err error) { answer <- entity.Reply[S]{Err: err} }
	n.system.Root.Send(n.router, &d)
	select {
	case r := <-answer:
		if d.joins && r.Sequence == 0 && fault.KindOf(r.Err) == fault.NotFound {
			r.Err = notBegun(d.stream)
		}
		return r, r.Err
	case <-ctx.Done():
		return entity.Reply[S]{}, context.Cause(ctx)
	case <-n.context.Done():
		return entity.Reply[S]{}, errStopping
	}
}

// shown returns what turns a reply into the state it holds, once the projections
// show that state, too.
func shown[S any](ctx context.Context, n *Node) func(entity.Reply[S], error) (S, error) {
	return func(r entity.Reply[S], err error) (S, error) {
		if err == nil {
			err = n.await(ctx, r.Sequence)
		}
		return r.State, err
	}
}

var errStopping = fault.New(fault.Unavailable, "reach the node's actors", "", "the daemon is stopping")

// notBegun tells a call that wanted to join another one that there is nothing to
// join: the other one has not got that far, or has just failed.
func notBegun(stream eventlog.Stream) error {
	return fault.New(fault.Unavailable, "join the call that has the name", string(stream), "it has not begun, or has just failed; ask again")
}

func sandboxName(name sandbox.Name) string {
	return fmt.Sprintf("sandbox %q %q %q %d", name.Namespace, name.Name, name.UID, name.Attempt)
}

func containerName(s id.Sandbox, name container.Name) string {
	return fmt.Sprintf("container %q %q %d", s, name.Name, name.Attempt)
}

// imageKey makes a stream's id of an image reference, which may be longer than
// a stream's name and hold any character.
func imageKey(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:])
}
