package entity

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Surroundings are what an entity needs besides its machine.
type Surroundings struct {
	Log    Log
	Logger *slog.Logger
	// Context is done when the daemon stops. Effects get it.
	Context context.Context
	// Now is the wall clock.
	Now func() time.Time
	// Go runs an effect or a replay, which the name describes; the daemon waits for it
	// before it ends. Once the daemon is stopping, it may drop the function.
	Go func(name string, f func())
	// After calls a function later, unless it is stopped before.
	After func(d time.Duration, f func()) (stop func() bool)
	// Held counts how long callers or effects waited for the log.
	Held func(time.Duration)
	// Ended reports that the entity has nothing left to do, after `handled` Asks.
	Ended func(stream eventlog.Stream, handled uint64)
	// Dozes reports that the entity is at rest after `handled` Asks, since a Doze asked.
	Dozes func(stream eventlog.Stream, handled uint64)
	// Freed reports that the entity's name may be taken, before any caller learns of it.
	Freed func(stream eventlog.Stream)
	// Quarantined reports that the stream cannot be used.
	Quarantined func(stream eventlog.Stream, reason error)
	// Salvaged reports that nothing is left of the entity of such a stream.
	Salvaged func(stream eventlog.Stream)
}

// Log is what an entity needs of the event log.
type Log interface {
	eventlog.Reader
	AppendAsync(a eventlog.Append, done func([]eventlog.Record, error))
}

// Entity does the work that a core returns. It receives one message at a time, and never
// blocks.
type Entity[S, C, E any, F Effect[C]] struct {
	core    *Core[S, C, E, F]
	machine *Machine[S, C, E, F]
	around  Surroundings
	stream  eventlog.Stream
	// send brings a message to this entity's own mailbox.
	send   func(message any)
	ending bool
	// salvaged: it was reported to the owner.
	salvaged bool
	// timers stops armed timers, by the effect's key.
	timers map[string]func() bool
}

// New returns the entity of a stream; see NewCore for start and first.
func New[S, C, E any, F Effect[C]](m *Machine[S, C, E, F], around Surroundings, stream eventlog.Stream, start *Restored[S], first ...C) *Entity[S, C, E, F] {
	return &Entity[S, C, E, F]{
		core:    NewCore(m, stream, around.Logger, start, first...),
		machine: m, around: around, stream: stream,
	}
}

// Break marks the stream of an entity that has not begun as unusable.
func (e *Entity[S, C, E, F]) Break(reason string) { e.core.Break(reason) }

// Start begins the entity's life. Send puts a message in its mailbox, from any goroutine.
func (e *Entity[S, C, E, F]) Start(send func(message any)) {
	e.send = send
	e.Receive(Begin{})
}

// Receive handles one message.
func (e *Entity[S, C, E, F]) Receive(message any) {
	if !e.ending && e.around.Context.Err() != nil {
		e.ending = true
		e.carryOut(e.core.Step(e.around.Now(), End{}))
	}
	e.carryOut(e.core.Step(e.around.Now(), message))
}

// Stop ends the entity's life.
func (e *Entity[S, C, E, F]) Stop() {
	for _, stop := range e.timers {
		stop()
	}
}

// carryOut does a step's work, in its order. A panic in one part does not stop the
// others.
func (e *Entity[S, C, E, F]) carryOut(r Ready[S, F]) {
	if r.Freed {
		e.guard("free the name", func() { e.around.Freed(e.stream) })
	}
	if r.Quarantined != nil {
		e.guard("report the quarantine", func() { e.around.Quarantined(e.stream, r.Quarantined) })
	}
	for i := range r.Answers {
		e.guard("answer", r.Answers[i].give)
	}
	if r.Append != nil {
		e.append(*r.Append)
	}
	for _, accepted := range r.Accepted {
		e.guard("accept", accepted)
	}
	for _, f := range r.Issue {
		e.issue(f)
	}
	e.time(r)
	if r.Replay != nil {
		e.replay(*r.Replay)
	}
	if r.Held > 0 {
		e.around.Held(r.Held)
	}
	if r.Salvaged && !e.salvaged {
		e.salvaged = true
		e.guard("report the salvage", func() { e.around.Salvaged(e.stream) })
	}
	if r.Rested {
		e.guard("retire", func() { e.around.Ended(e.stream, r.Handled) })
	}
	if r.Dozes {
		e.guard("doze", func() { e.around.Dozes(e.stream, r.Handled) })
	}
}

// guard does one thing, and reports whether it did not panic.
func (e *Entity[S, C, E, F]) guard(what string, f func()) bool {
	p, stack := caught(f)
	if p != nil {
		e.around.Logger.Error("entity panicked", "stream", string(e.stream), "at", what, "panic", p, "stack", string(stack))
	}
	return p == nil
}

// append sends events to the log. If that panics, it is unknown whether they were
// appended.
func (e *Entity[S, C, E, F]) append(a eventlog.Append) {
	send := e.send
	given := e.guard("append", func() {
		e.around.Log.AppendAsync(a, func(records []eventlog.Record, err error) { send(Appended{records, err}) })
	})
	if !given {
		send(Appended{Err: eventlog.ErrOutcomeUnknown})
	}
}

// time arms and disarms timers.
func (e *Entity[S, C, E, F]) time(r Ready[S, F]) {
	send := e.send
	for _, key := range r.Disarm {
		e.timers[key]()
		drop(&e.timers, key)
	}
	for _, t := range r.Arm {
		put(&e.timers, t.Key, e.around.After(t.After, func() { send(Fired(t)) }))
	}
	if r.RetryAfter > 0 {
		e.around.After(r.RetryAfter, func() { send(Retry{}) })
	}
}

// issue begins an effect. A panic in a driver fails its effect.
func (e *Entity[S, C, E, F]) issue(f F) {
	send, machine, around, stream := e.send, e.machine, e.around, e.stream
	done := func(outcome C) { send(Outcome[C]{f.Key(), f.Resource(), outcome}) }
	routed := false
	if machine.Route != nil && !e.guard("route "+f.Key(), func() { routed = machine.Route(f, done) }) {
		done(f.Failed(fault.New(fault.Internal, f.Key(), string(stream), "it could not be routed"), around.Now()))
		return
	}
	if routed {
		return
	}
	around.Go(f.Key()+" of "+string(stream), func() {
		var outcome C
		defer func() {
			if p := recover(); p != nil {
				around.Logger.Error("effect panicked", "stream", string(stream), "effect", f.Key(), "panic", p, "stack", string(debug.Stack()))
				outcome = f.Failed(fault.New(fault.Internal, f.Key(), string(stream), "panic: %v", p), around.Now())
			}
			done(outcome)
		}()
		around.Logger.Debug("effect", "stream", string(stream), "effect", f.Key())
		outcome = machine.Execute(around.Context, f)
	})
}

// replay reads the stream.
func (e *Entity[S, C, E, F]) replay(how Replay) {
	send, machine, around, stream := e.send, e.machine, e.around, e.stream
	around.Go("replay of "+string(stream), func() {
		send(restore(around.Context, machine, around.Log, stream, how))
	})
}
