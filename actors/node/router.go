package node

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Messages of the router.
type (
	// deliver brings a message to the entity of a stream.
	deliver struct {
		stream  eventlog.Stream
		message any
		// spawn describes the entity if it is not there yet; nil means that only
		// an entity that is there may get the message.
		spawn func() *actor.Props
		// refuse is called instead when the message cannot be delivered.
		refuse func(error)
		// creates: the message begins the entity's life, which a bar forbids.
		creates bool
		// accepted is the message's; nil for none.
		accepted func()
		// joins: the message is for what another call began.
		joins bool
		// barFor is the sandbox on whose behalf an entity that is not there is
		// barred from coming to be; empty for none.
		barFor eventlog.Stream
	}
	// claim gives a name to a stream, unless another one has it.
	claim struct {
		name   string
		stream eventlog.Stream
		owner  func(eventlog.Stream)
	}
	// freed says that the name of a stream may be taken again.
	freed struct{ stream eventlog.Stream }
	// ended says that an entity has nothing under way after that many messages. An
	// actor may say so more than once, and be gone when the last word arrives: it
	// names itself, so that its successor is not taken for it.
	ended struct {
		stream  eventlog.Stream
		who     *actor.PID
		handled uint64
	}
	// find tells which of the streams has an entity.
	find struct {
		streams []eventlog.Stream
		found   func(eventlog.Stream)
	}
)

// router is the root actor. Its fields belong to its mailbox.
type router struct {
	logger   *slog.Logger
	entities map[eventlog.Stream]*entityRef
	// generation makes the name of each actor new: protoactor frees a name
	// before the old actor has ended.
	generation uint64
	names      map[string]eventlog.Stream
	named      map[eventlog.Stream]string
	// joining holds what came for a stream whose name was claimed a moment ago and
	// whose entity is still to be spawned.
	joining map[eventlog.Stream][]*deliver
	// barred maps containers that must not come to be to the sandbox that was
	// stopped before their creation arrived.
	barred map[eventlog.Stream]eventlog.Stream
	// stopping: the daemon ends, and everybody else first.
	stopping bool
}

type entityRef struct {
	pid *actor.PID
	// sent counts the messages that were routed to it.
	sent uint64
}

func newRouter(logger *slog.Logger) *router {
	return &router{
		logger:   logger,
		entities: map[eventlog.Stream]*entityRef{},
		names:    map[string]eventlog.Stream{},
		named:    map[eventlog.Stream]string{},
		joining:  map[eventlog.Stream][]*deliver{},
		barred:   map[eventlog.Stream]eventlog.Stream{},
	}
}

// Receive handles one message. The routing table must outlive a panic.
func (r *router) Receive(ctx actor.Context) {
	defer func() {
		if p := recover(); p != nil {
			r.logger.Error("router panicked", "panic", p, "message", fmt.Sprintf("%T", ctx.Message()))
		}
	}()
	switch msg := ctx.Message().(type) {
	case *deliver:
		r.deliver(ctx, msg)
	case *claim:
		owner, taken := r.names[msg.name]
		if !taken {
			owner = msg.stream
			r.names[msg.name] = owner
			r.named[owner] = msg.name
		}
		msg.owner(owner)
	case *freed:
		if name, has := r.named[msg.stream]; has {
			delete(r.named, msg.stream)
			delete(r.names, name)
		}
		r.release(ctx, msg.stream)
	case *ended:
		r.retire(ctx, msg)
	case *find:
		for _, stream := range msg.streams {
			if r.entities[stream] != nil {
				msg.found(stream)
				return
			}
		}
		msg.found("")
	case *actor.Stopping:
		r.stopping = true
	case *actor.Terminated:
		if !r.stopping {
			r.lost(msg.Who)
		}
	}
}

func (r *router) deliver(ctx actor.Context, msg *deliver) {
	ref := r.entities[msg.stream]
	if ref == nil {
		if msg.barFor != "" {
			r.barred[msg.stream] = msg.barFor
		}
		if _, barred := r.barred[msg.stream]; barred && msg.creates {
			delete(r.barred, msg.stream)
			msg.refuse(fault.New(fault.Precondition, "create", string(msg.stream), "its pod sandbox is being stopped"))
			return
		}
		if _, claimed := r.named[msg.stream]; claimed && msg.joins {
			r.joining[msg.stream] = append(r.joining[msg.stream], msg)
			return
		}
		if msg.spawn == nil {
			msg.refuse(fault.New(fault.NotFound, "find", string(msg.stream), "there is none"))
			return
		}
		if r.stopping {
			// Everybody who is there was told to stop; nobody would tell this one.
			msg.refuse(errStopping)
			return
		}
		r.generation++
		name := string(msg.stream) + "@" + strconv.FormatUint(r.generation, 10)
		pid, err := ctx.SpawnNamed(msg.spawn(), name)
		if err != nil {
			msg.refuse(fault.New(fault.Internal, "spawn actor", name, "%v", err))
			return
		}
		ref = &entityRef{pid: pid}
		r.entities[msg.stream] = ref
	}
	if msg.message != nil {
		ref.sent++
		ctx.Send(ref.pid, msg.message)
	}
	r.release(ctx, msg.stream)
}

// release delivers what waited for a stream's entity, or for its name to be freed
// without one.
func (r *router) release(ctx actor.Context, stream eventlog.Stream) {
	waited := r.joining[stream]
	delete(r.joining, stream)
	for _, msg := range waited {
		r.deliver(ctx, msg)
	}
}

// retire lets an entity go, unless a message is on its way to it.
func (r *router) retire(ctx actor.Context, msg *ended) {
	ref := r.entities[msg.stream]
	if ref == nil || !ref.pid.Equal(msg.who) || ref.sent != msg.handled {
		return
	}
	delete(r.entities, msg.stream)
	for container, sandbox := range r.barred {
		if sandbox == msg.stream {
			delete(r.barred, container)
		}
	}
	ctx.Stop(ref.pid)
}

// lost forgets an entity whose shell itself failed, so that the next message
// spawns it anew from its stream.
func (r *router) lost(who *actor.PID) {
	for stream, ref := range r.entities {
		if ref.pid.Equal(who) {
			r.logger.Error("actor ended unexpectedly", "stream", string(stream))
			delete(r.entities, stream)
			return
		}
	}
}
