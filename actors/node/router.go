package node

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Ref is an actor on a stage. It can be compared.
type Ref any

// Stage is where the router's actors run.
type Stage interface {
	// Spawn starts an actor. Its name is new.
	Spawn(name string, a entity.Actor) (Ref, error)
	// Send puts a message into an actor's mailbox.
	Send(to Ref, message any)
	// Stop ends an actor once it has received what was sent to it.
	Stop(Ref)
}

// Messages of the router.
type (
	// deliver brings a message to the entity of a stream.
	deliver struct {
		stream  eventlog.Stream
		message any
		// spawn makes the entity if there is none yet; nil: only an existing entity
		// gets the message.
		spawn *maker
		// refuse is called instead if the message cannot be delivered.
		refuse func(error)
		// creates: the message begins the life of an entity with a name, which a bar
		// forbids. If it is refused, the name is freed.
		creates bool
		// joins: the message is for what another call began.
		joins bool
		// barFor is the sandbox on whose behalf an entity that does not exist is
		// barred from being created; empty for none.
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
	// ended says that an entity has nothing left to do after that many messages. An
	// actor may say so more than once, and be gone when the last report arrives: the
	// generation tells it from its successor.
	ended struct {
		stream     eventlog.Stream
		generation uint64
		handled    uint64
	}
	// pack says that little happens.
	pack struct{}
	// doze says that entities at rest may go: those behind a stream. It passes on what to send
	// after a pause, if there are many.
	doze struct {
		after eventlog.Stream
		pause func(doze)
	}
	// dozes says that an entity is at rest, after that many messages.
	dozes struct {
		stream     eventlog.Stream
		generation uint64
		handled    uint64
	}
	// find asks which of the streams has an entity.
	find struct {
		streams []eventlog.Stream
		found   func(eventlog.Stream)
	}
	// saga is a step of a call over several streams: it runs here, where such calls
	// have their state.
	saga func()
	// lost says that an actor has ended; if nothing stopped it, it failed.
	lost struct{ who Ref }
	// stopping says that all actors end.
	stopping struct{}
)

// Router knows the actor of each stream and the owner of each name. Every command passes
// through it, one at a time.
type Router struct {
	logger   *slog.Logger
	stage    Stage
	entities map[eventlog.Stream]*entityRef
	// generation makes each actor's name unique: protoactor frees a name before the
	// old actor has ended.
	generation uint64
	names      names
	// joining holds what arrived for a stream whose name was just claimed and whose
	// entity is not spawned yet.
	joining map[eventlog.Stream][]*deliver
	// barred maps containers that must not be created to the sandbox that was
	// stopped before their creation arrived.
	barred map[eventlog.Stream]eventlog.Stream
	// stopping: the daemon is stopping, and all other actors end first.
	stopping bool
}

type entityRef struct {
	// ref is nil while the entity sleeps: it is at rest, and has no actor.
	ref        Ref
	generation uint64
	// sent counts the messages that were routed to it, and quiet is what it was at the last
	// doze.
	sent, quiet uint64
	// anew and kind are its maker's. What it began with is not kept, and anew is nil once it has
	// slept.
	anew func(generation uint64) entity.Actor
	*kind
	// owner is its maker's.
	owner string
}

// maker makes an entity.
type maker struct {
	// first makes it, and anew makes it again from its stream.
	first, anew func(generation uint64) entity.Actor
	*kind
	// owner is whose it is: the sandbox of a container.
	owner string
}

// kind is what the entities of one machine have in common.
type kind struct {
	// wake makes an entity again after it was at rest; nil if it is never let go.
	wake func(stream eventlog.Stream, generation uint64) entity.Actor
	// retired, if not nil, is called once an entity is retired.
	retired func(stream eventlog.Stream, owner string)
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
	case doze:
		r.doze(msg)
	case pack:
		r.pack()
	case *dozes:
		r.sleep(msg)
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
		if err := r.awake(msg.stream, ref); err != nil {
			msg.refuse(err)
			return
		}
		ref.sent++
		r.stage.Send(ref.ref, msg.message)
	}
	r.release(msg.stream)
}

// begin makes a message's entity, or refuses or keeps the message.
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
		// All existing actors are stopping already; nothing would stop this one.
		r.refuse(msg, errStopping)
	default:
		return r.spawn(msg)
	}
	return nil
}

func (r *Router) spawn(msg *deliver) *entityRef {
	ref := &entityRef{anew: msg.spawn.anew, kind: msg.spawn.kind, owner: msg.spawn.owner}
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
	ref.ref, ref.generation, ref.sent, ref.quiet = actor, r.generation, 0, 0
	r.entities[stream] = ref
	return nil
}

// refuse answers a message that is not delivered. If it should have begun a named entity,
// the name is free before the caller learns of it.
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

// release delivers what waited for a stream's entity to be spawned or its name to be
// freed.
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

// retire stops an entity, unless a message is on its way to it.
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
	if ref.retired != nil {
		ref.retired(msg.stream, ref.owner)
	}
}

// doze asks all entities that got no message since the last time whether they are at rest.
func (r *Router) doze(msg doze) {
	asked := 0
	for _, stream := range slices.Sorted(maps.Keys(r.entities)) {
		ref := r.entities[stream]
		if stream <= msg.after || ref.ref == nil || ref.wake == nil {
			continue
		}
		if ref.sent == ref.quiet {
			r.stage.Send(ref.ref, entity.Doze{})
			asked++
		}
		ref.quiet = ref.sent
		if asked == dozeAtOnce {
			msg.after = stream
			msg.pause(msg)
			return
		}
	}
}

// sleep lets the actor of an entity at rest go, unless a message is on its way to it.
func (r *Router) sleep(msg *dozes) {
	ref := r.entities[msg.stream]
	if ref == nil || ref.ref == nil || ref.generation != msg.generation || ref.sent != msg.handled {
		return
	}
	r.stage.Stop(ref.ref)
	ref.ref, ref.anew = nil, nil
}

// pack copies what is kept of entities into few large pieces of memory; see projections.Feed.Pack.
func (r *Router) pack() {
	size := 0
	for stream := range r.entities {
		size += len(stream)
	}
	var text strings.Builder
	text.Grow(size)
	refs, entities := make([]entityRef, 0, len(r.entities)), make(map[eventlog.Stream]*entityRef, len(r.entities))
	owners := map[string]string{}
	for stream, ref := range sorted(r.entities) { // containers come before sandboxes
		at := text.Len()
		text.WriteString(string(stream))
		copied := eventlog.Stream(text.String()[at:])
		refs = append(refs, *ref)
		entities[copied] = &refs[len(refs)-1]
		_, name, _ := strings.Cut(string(copied), "/")
		owners[name] = name
	}
	for i := range refs {
		if owner, is := owners[refs[i].owner]; is {
			refs[i].owner = owner
		}
	}
	r.names = r.names.packed(entities)
	r.entities = entities
}

// awake makes an actor of an entity that sleeps.
func (r *Router) awake(stream eventlog.Stream, ref *entityRef) error {
	switch {
	case ref.ref != nil:
		return nil
	case r.stopping:
		return errStopping
	}
	return r.play(stream, ref, func(generation uint64) entity.Actor { return ref.wake(stream, generation) })
}

// replace makes the entity of a failed actor anew. There must be one at all times:
// otherwise a Stop or a Remove of it would succeed.
func (r *Router) replace(who Ref) {
	if r.stopping {
		return
	}
	for stream, ref := range r.entities {
		if ref.ref != who {
			continue
		}
		r.logger.Error("actor ended unexpectedly", "stream", string(stream))
		anew := ref.anew
		if anew == nil {
			anew = func(generation uint64) entity.Actor { return ref.wake(stream, generation) }
		}
		if err := r.play(stream, ref, anew); err != nil {
			r.logger.Error("actor not made anew", "stream", string(stream), "error", err)
		}
		return
	}
}
