package node

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Ref is an actor on a stage. It can be compared.
type Ref any

// Stage is where the router's actors run.
type Stage interface {
	// Spawn begins the life of an actor. Its name is new.
	Spawn(name string, a entity.Actor) (Ref, error)
	// Send puts a message into an actor's mailbox.
	Send(to Ref, message any)
	// Stop ends an actor's life once it has received what was sent to it.
	Stop(Ref)
}

// Messages of the router.
type (
	// deliver brings a message to the entity of a stream.
	deliver struct {
		stream  eventlog.Stream
		message any
		// spawn makes the entity if it is not there yet; nil means that only
		// an entity that is there may get the message.
		spawn *maker
		// refuse is called instead when the message cannot be delivered.
		refuse func(error)
		// creates: the message begins the life of what has a name, which a bar forbids.
		// Refused, it gives the name back.
		creates bool
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
	// names its generation, so that its successor is not taken for it.
	ended struct {
		stream     eventlog.Stream
		generation uint64
		handled    uint64
	}
	// find tells which of the streams has an entity.
	find struct {
		streams []eventlog.Stream
		found   func(eventlog.Stream)
	}
	// saga is a step of a call over several streams: it runs here, where such calls
	// have their state.
	saga func()
	// lost says that an actor ended although nobody had stopped it.
	lost struct{ who Ref }
	// stopping says that all actors end.
	stopping struct{}
)

// Router knows which actor is whose, and who has which name. Every command passes
// through it, one at a time.
type Router struct {
	logger   *slog.Logger
	stage    Stage
	entities map[eventlog.Stream]*entityRef
	// generation makes the name of each actor new: protoactor frees a name
	// before the old actor has ended.
	generation uint64
	names      names
	// joining holds what arrived for a stream whose name was claimed a moment ago and
	// whose entity is still to be spawned.
	joining map[eventlog.Stream][]*deliver
	// barred maps containers that must not come to be to the sandbox that was
	// stopped before their creation arrived.
	barred map[eventlog.Stream]eventlog.Stream
	// stopping: the daemon ends, and everybody else first.
	stopping bool
}

type entityRef struct {
	ref        Ref
	generation uint64
	// sent counts the messages that were routed to it.
	sent  uint64
	maker *maker
}

// maker makes an entity.
type maker struct {
	// first makes it, anew makes it again from its stream.
	first, anew func(generation uint64) entity.Actor
	// retired, if not nil, is called when nothing is left of it.
	retired func()
}

// NewRouter returns a router without actors.
func NewRouter(logger *slog.Logger, stage Stage) *Router {
	return &Router{
		logger: logger, stage: stage, names: newNames(),
		entities: map[eventlog.Stream]*entityRef{},
		joining:  map[eventlog.Stream][]*deliver{},
		barred:   map[eventlog.Stream]eventlog.Stream{},
	}
}

// Receive handles one message. The routing table outlives a panic.
func (r *Router) Receive(message any) {
	defer func() {
		if p := recover(); p != nil {
			r.logger.Error("router panicked", "panic", p, "message", fmt.Sprintf("%T", message))
		}
	}()
	switch msg := message.(type) {
	case *deliver:
		r.deliver(msg)
	case *claim:
		msg.owner(r.names.claim(msg.name, msg.stream))
	case *freed:
		r.free(msg.stream)
	case *ended:
		r.retire(msg)
	case *find:
		msg.found(r.find(msg.streams))
	case saga:
		msg()
	case *lost:
		r.replace(msg.who)
	case stopping:
		r.stopping = true
	}
}

func (r *Router) deliver(msg *deliver) {
	ref := r.entities[msg.stream]
	if ref == nil {
		if ref = r.begin(msg); ref == nil {
			return
		}
	}
	if msg.message != nil {
		ref.sent++
		r.stage.Send(ref.ref, msg.message)
	}
	r.release(msg.stream)
}

// begin makes the entity that a message is for, or refuses the message or keeps it.
func (r *Router) begin(msg *deliver) *entityRef {
	if msg.barFor != "" {
		r.barred[msg.stream] = msg.barFor
	}
	_, barred := r.barred[msg.stream]
	switch {
	case barred && msg.creates:
		delete(r.barred, msg.stream)
		r.refuse(msg, fault.New(fault.Precondition, "create", string(msg.stream), "its pod sandbox is being stopped"))
	case msg.joins && r.names.has(msg.stream):
		r.joining[msg.stream] = append(r.joining[msg.stream], msg)
	case msg.spawn == nil:
		r.refuse(msg, fault.New(fault.NotFound, "find", string(msg.stream), "there is none"))
	case r.stopping:
		// Everybody who is there was told to stop; nobody would tell this one.
		r.refuse(msg, errStopping)
	default:
		return r.spawn(msg)
	}
	return nil
}

func (r *Router) spawn(msg *deliver) *entityRef {
	ref := &entityRef{maker: msg.spawn}
	if err := r.play(msg.stream, ref, msg.spawn.first); err != nil {
		r.refuse(msg, err)
		return nil
	}
	return ref
}

// play makes a stream's entity an actor of a new generation.
func (r *Router) play(stream eventlog.Stream, ref *entityRef, spawn func(uint64) entity.Actor) error {
	r.generation++
	name := string(stream) + "@" + strconv.FormatUint(r.generation, 10)
	actor, err := r.stage.Spawn(name, spawn(r.generation))
	if err != nil {
		return fault.New(fault.Internal, "spawn actor", name, "%v", err)
	}
	ref.ref, ref.generation, ref.sent = actor, r.generation, 0
	r.entities[stream] = ref
	return nil
}

// refuse answers a message that is not delivered. A name that was claimed for what it
// should begin is free before its caller learns that.
func (r *Router) refuse(msg *deliver, err error) {
	if msg.creates {
		r.free(msg.stream)
	}
	msg.refuse(err)
}

func (r *Router) free(stream eventlog.Stream) {
	r.names.free(stream)
	r.release(stream)
}

// release delivers what waited for a stream's entity, or for its name to be freed
// without one.
func (r *Router) release(stream eventlog.Stream) {
	waited := r.joining[stream]
	delete(r.joining, stream)
	for _, msg := range waited {
		r.deliver(msg)
	}
}

func (r *Router) find(streams []eventlog.Stream) eventlog.Stream {
	for _, stream := range streams {
		if r.entities[stream] != nil {
			return stream
		}
	}
	return ""
}

// retire lets an entity go, unless a message is on its way to it.
func (r *Router) retire(msg *ended) {
	ref := r.entities[msg.stream]
	if ref == nil || ref.generation != msg.generation || ref.sent != msg.handled {
		return
	}
	delete(r.entities, msg.stream)
	for container, sandbox := range r.barred {
		if sandbox == msg.stream {
			delete(r.barred, container)
		}
	}
	r.stage.Stop(ref.ref)
	if ref.maker.retired != nil {
		ref.maker.retired()
	}
}

// replace makes an entity anew whose actor has failed: at no time must it seem that there
// is none, for then a Stop or a Remove of it would succeed.
func (r *Router) replace(who Ref) {
	if r.stopping {
		return
	}
	for stream, ref := range r.entities {
		if ref.ref != who {
			continue
		}
		r.logger.Error("actor ended unexpectedly", "stream", string(stream))
		if err := r.play(stream, ref, ref.maker.anew); err != nil {
			r.logger.Error("actor not made anew", "stream", string(stream), "error", err)
		}
		return
	}
}
