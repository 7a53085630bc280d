package node

import (
	"context"
	"log/slog"
	"strings"
	"time"

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

// HostStream is the stream of the node's own events.
const HostStream eventlog.Stream = "node"

// The machines of the node's entities.
type (
	SandboxMachine   = entity.Machine[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]
	ContainerMachine = entity.Machine[container.State, container.Command, container.Event, container.Effect]
	ImageMachine     = entity.Machine[image.State, image.Command, image.Event, image.Effect]
	hostMachine      = entity.Machine[host.State, host.Command, host.Event, noEffect]
)

// Machines are the kinds of entities whose effects an executor carries out.
type Machines struct {
	Sandboxes  *SandboxMachine
	Containers *ContainerMachine
	Images     *ImageMachine
}

// NewMachines returns the machines with their functions, codecs and executor.
func NewMachines(x Executor) Machines {
	return Machines{
		Sandboxes: &SandboxMachine{
			Kind: "sandbox", Decide: sandbox.Decide, Evolve: sandbox.Evolve, Owed: sandbox.Owed, Announced: sandbox.Announced, Volatile: sandbox.Volatile,
			Ended: sandbox.Ended, Free: sandbox.NameFree,
			Encode: codec.EncodeSandbox, Decode: codec.DecodeSandbox, DecodeState: codec.FromBase(codec.DecodeSandboxState),
			Execute: x.Sandbox, Salvage: sandbox.Salvage,
		},
		Containers: &ContainerMachine{
			Kind: "container", Decide: container.Decide, Evolve: container.Evolve, Owed: container.Owed, Announced: container.Announced, Volatile: container.Volatile,
			Ended: container.Ended, Free: container.NameFree,
			Encode: codec.EncodeContainer, Decode: codec.DecodeContainer, DecodeState: codec.FromBase(codec.DecodeContainerState),
			Execute: x.Container, Salvage: container.Salvage,
		},
		Images: &ImageMachine{
			Kind: "image", Decide: image.Decide, Evolve: image.Evolve, Owed: image.Owed,
			Ended: image.Ended, Free: func(image.State) bool { return false },
			Encode: codec.EncodeImage, Decode: codec.DecodeImage, DecodeState: codec.FromBase(codec.DecodeImageState),
			Execute: x.Image,
		},
	}
}

// Core is the node without actors and contexts: its calls answer by a function, and never
// block. Production runs it on protoactor, the simulator on its own stage.
type Core struct {
	// post brings a message to the router.
	post   func(message any)
	logger *slog.Logger
	around entity.Surroundings

	sandboxes  *SandboxMachine
	containers *ContainerMachine
	images     *ImageMachine
	host       *hostMachine
	// kinds are what the router knows of them.
	kinds struct{ sandbox, container, image kind }
}

// NewCore returns a node without any entity. Post brings a message to the Router that
// serves it. NewCore sets Route of the sandboxes' machine; entities get Ended, Dozes,
// Freed, Quarantined and Salvaged of around from the core.
func NewCore(post func(message any), m Machines, around entity.Surroundings) *Core {
	c := &Core{
		post: post, logger: around.Logger, around: around,
		sandboxes: m.Sandboxes, containers: m.Containers, images: m.Images,
		host: &hostMachine{
			Kind: "node", Decide: host.Decide, Evolve: host.Evolve,
			Owed:  func(host.State) []noEffect { return nil },
			Ended: func(host.State) bool { return false }, Free: func(host.State) bool { return false },
			Encode: codec.EncodeHost, Decode: codec.DecodeHost, DecodeState: codec.FromBase(codec.DecodeHostState),
		},
	}
	c.kinds.sandbox, c.kinds.image = kind{wake: waking(c, c.sandboxes)}, kind{wake: waking(c, c.images)}
	c.kinds.container = kind{wake: waking(c, c.containers), retired: func(stream eventlog.Stream, owner string) {
		_, name, _ := strings.Cut(string(stream), "/")
		c.forget(id.Sandbox(owner), id.Container(name))
	}}
	c.sandboxes.Route = c.routeSandbox
	c.around.Freed = func(stream eventlog.Stream) { c.post(&freed{stream}) }
	c.around.Quarantined = func(stream eventlog.Stream, reason error) {
		c.tell(HostStream, &entity.Ask[host.State, host.Command, host.Event]{
			Command: host.ReportQuarantine{Stream: string(stream), Reason: reason.Error()},
		})
	}
	c.around.Salvaged = c.closed
	return c
}

// noEffect is the effect of a machine that has none.
type noEffect struct{}

func (noEffect) Key() string                          { return "" }
func (noEffect) Resource() string                     { return "" }
func (noEffect) NotBefore() time.Time                 { return time.Time{} }
func (noEffect) Failed(error, time.Time) host.Command { return nil }

// Doze lets entities go that have been at rest since the last time: they are made again from
// their streams for the next command. Most pods rest most of the time.
func (c *Core) Doze() {
	c.post(doze{pause: func(rest doze) { c.around.After(dozePause, func() { c.post(rest) }) }})
}

// Pack has the router keep what it knows of entities in few large pieces of memory. It should be
// called when little happens.
func (c *Core) Pack() { c.post(pack{}) }

// closed records in the node's stream that nothing is left of a quarantined one, and
// retries while the log is unavailable.
func (c *Core) closed(stream eventlog.Stream) {
	c.Host(host.ReportSalvage{Stream: string(stream)}, Caller[host.State, host.Event]{Reply: func(r entity.Reply[host.State]) {
		if r.Err != nil && fault.KindOf(r.Err) == fault.Unavailable {
			c.around.After(tellAgain, func() { c.closed(stream) })
		}
	}})
}

// making is what a stream's entity is made of once the router needs it.
type making[S, C, E any, F entity.Effect[C]] struct {
	machine *entity.Machine[S, C, E, F]
	stream  eventlog.Stream
	// start is where it begins; nil: from its stream.
	start *entity.Restored[S]
	first []C
	// damage is why the stream cannot be used; empty if it can.
	damage string
	*kind
}

func (c *Core) sandboxActor(s id.Sandbox, start *entity.Restored[sandbox.State], first ...sandbox.Command) *maker {
	return made(c, c.sandboxMaking(s, start, first...))
}

func (c *Core) sandboxMaking(s id.Sandbox, start *entity.Restored[sandbox.State], first ...sandbox.Command) making[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect] {
	return making[sandbox.State, sandbox.Command, sandbox.Event, sandbox.Effect]{
		machine: c.sandboxes, stream: c.sandboxes.Stream(string(s)), start: start, first: first, kind: &c.kinds.sandbox,
	}
}

// containerActor returns the maker of a container's entity; its sandbox forgets it once
// it is retired.
func (c *Core) containerActor(of id.Sandbox, x id.Container, start *entity.Restored[container.State], first ...container.Command) *maker {
	return owned(of, made(c, c.containerMaking(x, start, first...)))
}

func (c *Core) containerMaking(x id.Container, start *entity.Restored[container.State], first ...container.Command) making[container.State, container.Command, container.Event, container.Effect] {
	return making[container.State, container.Command, container.Event, container.Effect]{
		machine: c.containers, stream: c.containers.Stream(string(x)), start: start, first: first, kind: &c.kinds.container,
	}
}

func owned(by id.Sandbox, m *maker) *maker {
	m.owner = string(by)
	return m
}

func (c *Core) imageActor(ref string, start *entity.Restored[image.State]) *maker {
	return made(c, making[image.State, image.Command, image.Event, image.Effect]{
		machine: c.images, stream: c.images.Stream(id.ImageKey(ref)), start: start, kind: &c.kinds.image,
	})
}

// made returns the maker of an entity. What the router keeps of it, to make the entity
// anew, is not where it began, unless its stream cannot be used.
func made[S, C, E any, F entity.Effect[C]](c *Core, m making[S, C, E, F]) *maker {
	first := m
	if m.damage == "" {
		m.start = nil
	}
	return &maker{
		first: func(generation uint64) entity.Actor { return first.make(c, generation) },
		anew:  func(generation uint64) entity.Actor { return m.make(c, generation) },
		kind:  m.kind,
	}
}

// waking returns what makes entities of a machine again after they were at rest.
func waking[S, C, E any, F entity.Effect[C]](c *Core, machine *entity.Machine[S, C, E, F]) func(eventlog.Stream, uint64) entity.Actor {
	return func(stream eventlog.Stream, generation uint64) entity.Actor {
		rested := making[S, C, E, F]{machine: machine, stream: stream}
		return rested.make(c, generation)
	}
}

func (m *making[S, C, E, F]) make(c *Core, generation uint64) entity.Actor {
	around := c.around
	around.Ended = func(stream eventlog.Stream, handled uint64) { c.post(&ended{stream, generation, handled}) }
	around.Dozes = func(stream eventlog.Stream, handled uint64) { c.post(&dozes{stream, generation, handled}) }
	e := entity.New(m.machine, around, m.stream, m.start, m.first...)
	if m.damage != "" {
		e.Break(m.damage)
	}
	return e
}

// tell brings a message to an entity, if there is one.
func (c *Core) tell(stream eventlog.Stream, message any) {
	c.post(&deliver{stream: stream, message: message, refuse: func(error) {}})
}

// forget reports to a sandbox that one of its containers is gone. A sandbox that is gone
// needs no report.
func (c *Core) forget(s id.Sandbox, x id.Container) {
	c.Sandbox(s, sandbox.ForgetContainer{Container: x}, Caller[sandbox.State, sandbox.Event]{Reply: func(r entity.Reply[sandbox.State]) {
		if r.Err != nil && fault.KindOf(r.Err) == fault.Unavailable {
			c.around.After(tellAgain, func() { c.forget(s, x) })
		}
	}})
}

// tellAgain is the pause before a report that the log refused is repeated.
const tellAgain = time.Second

// removeStray removes a container that its sandbox does not know.
func (c *Core) removeStray(x id.Container) {
	c.tell(c.containers.Stream(string(x)), &entity.Ask[container.State, container.Command, container.Event]{Command: container.Remove{By: container.ByNode}})
}

// routeSandbox takes over the sandbox's effects on containers: they are commands.
func (c *Core) routeSandbox(f sandbox.Effect, done func(sandbox.Command)) bool {
	switch f := f.(type) {
	case sandbox.StopContainer:
		c.stopContainer(f, func(err error) {
			done(sandbox.StopContainerDone{Container: f.Container, Err: unlessGone(err), At: c.around.Now()})
		})
	case sandbox.RemoveContainer:
		c.Container(f.Container, container.Remove{By: container.ByPod}, Caller[container.State, container.Event]{
			Until: container.RemoveAnswer,
			Reply: func(r entity.Reply[container.State]) {
				done(sandbox.RemoveContainerDone{Container: f.Container, Err: unlessGone(r.Err), At: c.around.Now()})
			},
		})
	default:
		return false
	}
	return true
}

// stopContainer stops a container without grace, or bars it if there is none yet.
func (c *Core) stopContainer(f sandbox.StopContainer, done func(error)) {
	send(c, c.containers, container.Command(container.Stop{Request: container.PodRequest, At: c.around.Now()}), Caller[container.State, container.Event]{
		Until: container.StopAnswer,
		Reply: func(r entity.Reply[container.State]) { done(r.Err) },
	}, deliver{stream: c.containers.Stream(string(f.Container)), barFor: c.sandboxes.Stream(string(f.Sandbox))})
}

func unlessGone(err error) error {
	if err != nil && fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}
