package entity

import (
	"context"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
)

// Effect is what a core needs to know of an effect. C is the machine's Command.
type Effect[C any] interface {
	// Key identifies the effect among all that one state can owe.
	Key() string
	// Resource names what it works on; effects on one resource never overlap.
	Resource() string
	// NotBefore is when it may be issued; the zero time means now.
	NotBefore() time.Time
	// Failed is its outcome if it ended with an error, at that time.
	Failed(err error, at time.Time) C
}

// Machine is a kind of entity: its pure functions, how its events are stored,
// and who carries out its effects. S, C, E and F are the machine's State,
// Command, Event and Effect.
type Machine[S, C, E any, F Effect[C]] struct {
	// Kind is the first part of the names of this machine's streams.
	Kind   string
	Decide func(S, C) ([]E, error)
	Evolve func(S, E) S
	Owed   func(S) []F
	// Announced reports whether a state already promises that an effect follows the one
	// under way, and owes the undoing of both. Such an effect need not wait until the
	// outcome before it is durable. It may be nil.
	Announced func(S, F) bool
	// Volatile reports whether an event must outlive the daemon only: if the node loses
	// power right after it, what is owed then leads to the same end without it. It may be
	// nil: then every event must outlive the node's boot.
	Volatile func(E) bool
	// DecodeState decodes the base's state of a stream whose beginning was trimmed. A
	// base does not say of which boot it is: streams for which that matters keep their last
	// record. It may be nil: then such a stream cannot be read.
	DecodeState func(schema uint32, state []byte) (S, error)
	// Recall returns the state at the end of a stream without reading it, and false if
	// it cannot. It may block, and must not be behind the log. It may be nil.
	Recall func(context.Context, eventlog.Stream) (Restored[S], bool)
	// Salvage returns what a command does to an entity whose stream cannot be used. Its
	// events evolve the state without being appended, and so do the outcomes of the
	// effects, which are issued once a command ends the entity. It may be nil: then every
	// command is refused.
	Salvage func(S, C) (events []E, ends, known bool)
	// Ended reports whether the actor may go: nothing is owed or awaited.
	Ended func(S) bool
	// Free reports whether another entity may take the name.
	Free   func(S) bool
	Encode func(E) (codec.Encoded, error)
	Decode func(typ string, schema uint32, payload []byte) (E, error)
	// Execute carries out an effect and returns its outcome, which is the
	// machine's next command. It may block, and must end when ctx does.
	Execute func(ctx context.Context, f F) C
	// Route takes over effects that are commands to other entities, and reports whether
	// f is one. It must not block; it calls done once, from any goroutine. It may be nil.
	Route func(f F, done func(C)) bool
}

// Stream returns the name of the stream of the entity with the given id.
func (m *Machine[S, C, E, F]) Stream(id string) eventlog.Stream {
	return eventlog.Stream(m.Kind + "/" + id)
}

// Answer decides when a caller is answered. It is called with the state as the command
// left it and no event (E's zero value), and then after every later event with the state
// that it led to.
type Answer[S, E any] func(S, E) (done bool, err error)

// Ask is the message that brings a command to an entity.
type Ask[S, C, E any] struct {
	Command C
	// Joins: the command is only for what another one began. If there is nothing to
	// join, it is refused as NotFound.
	Joins bool
	// Accepted is called, once, when the command was not refused and its events are on
	// their way to the log: later appends come after them. If the log refuses them for a
	// while, they are retried. It must not block. It may be nil.
	Accepted func()
	// Until is when to answer; nil means as soon as the command is durable.
	Until Answer[S, E]
	// Reply receives the answer, once. It must not block. It may be nil.
	Reply func(Reply[S])
	// Trace is the trace id of the request, recorded as part of the cause.
	Trace string
	// Gone is closed when the caller no longer waits; it may be nil.
	Gone <-chan struct{}
}

// Reply is the answer to an Ask.
type Reply[S any] struct {
	// State is the entity's state at the answer.
	State S
	// Sequence is the last record of the log that State includes, so that the
	// caller can wait until a projection includes it, too.
	Sequence eventlog.Sequence
	Err      error
}

// Restored is a state and its place in the stream.
type Restored[S any] struct {
	State    S
	Version  eventlog.Version
	Sequence eventlog.Sequence
	// BootID names the boot in which the stream's last record was appended.
	BootID string
}
