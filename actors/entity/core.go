package entity

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Core is one entity as a pure state machine: Step takes a message and returns work. It
// has no goroutine, no clock and no I/O, so production and the simulator run the same
// one.
//
//	          Begin, Replayed                  *Ask, Outcome
//	Replaying ───────────────► Ready: decide ◄────────────── queue
//	    ▲                        │    ▲
//	    │ panic, doubt           ▼    │ Appended: evolve, answer, issue
//	    └──────────────────── Appending
//
// While an append is under way, commands wait in the queue. A stream that cannot be
// used is broken: everything is refused.
type Core[S, C, E any, F Effect[C]] struct {
	machine *Machine[S, C, E, F]
	stream  eventlog.Stream
	logger  *slog.Logger

	// now and out belong to the step under way.
	now time.Time
	out Ready[S, F]

	at Restored[S]
	// ready: at is the stream's state. Otherwise a replay is under way or due.
	ready bool
	// replaying: the stream is being read.
	replaying bool
	// broken is why the stream is no longer used.
	broken error
	// salvaging: the entity of a broken stream is being ended, without the stream.
	salvaging bool
	// ending: the daemon is stopping. Nothing new begins, and outcomes are dropped: they
	// are about the stop, not about the effect, which stays owed.
	ending bool

	queue []*work[S, C, E]
	// first counts the commands that must be in the state before anything is issued.
	first   int
	append  appending[S, C, E]
	effects effects[C, F]
	waiters waiters[S, E]
	// panics counts panics in a row, without an append in between.
	panics int
	// doze: the owner asks whether the entity is at rest.
	doze bool
	// freed: the owner knows that the name may be taken.
	freed bool
	// handled counts the Asks.
	handled uint64
}

// work is a command and its origin: a caller or an effect.
type work[S, C, E any] struct {
	command C
	ask     *Ask[S, C, E]
	// effect is the one whose outcome the command is; the zero value if there is none.
	effect effect
	// first: see Core.first.
	first  bool
	events []E
	// arrived is when the command arrived, sent when its events went to the log.
	arrived, sent time.Time
	// ahead: the caller went on when the events went to the log.
	ahead bool
}

// Messages of a core, beside *Ask.
type (
	// Begin is the first message.
	Begin struct{}
	// Outcome is the outcome of an effect.
	Outcome[C any] struct {
		Key, Resource string
		Command       C
	}
	// Appended is the result of Ready.Append.
	Appended struct {
		Records []eventlog.Record
		Err     error
	}
	// Fired says that the time of a Timer has passed.
	Fired Timer
	// Retry says that the time of Ready.RetryAfter has passed.
	Retry struct{}
	// Doze asks whether the entity is at rest. If it is, Ready.Dozes.
	Doze struct{}
	// End says that the daemon is stopping.
	End struct{}
)

// Ready is the work that a step returns. It must be done in the order of its fields: the
// owner learns the fate of a stream before any caller does, and a command is accepted
// once its events are on their way.
type Ready[S any, F any] struct {
	// Freed: the entity's name may be taken.
	Freed bool
	// Quarantined is why the stream cannot be used.
	Quarantined error
	Answers     []Given[S]
	// Append goes to the log; its result is an Appended. There is one at a time.
	Append *eventlog.Append
	// Accepted are called once Append is on its way.
	Accepted []func()
	// Issue are the effects to begin; each result is an Outcome.
	Issue []F
	Arm   []Timer
	// Disarm are timers that no longer need to fire.
	Disarm []string
	// RetryAfter, if not 0, is how long after which to send a Retry.
	RetryAfter time.Duration
	// Replay is how to read the stream; the result is a Replayed. There is one at a time.
	Replay *Replay
	// Held is how long callers or effects waited for the log.
	Held time.Duration
	// Rested: after Handled Asks, the entity has nothing left to do. If it is Salvaged,
	// its stream does not say that it has ended.
	Rested, Salvaged bool
	// Dozes: after Handled Asks, nothing is under way or awaited. The next Ask can go to
	// another core of the stream.
	Dozes   bool
	Handled uint64
}

// Given is an answer for a caller.
type Given[S any] struct {
	To    func(Reply[S])
	Reply Reply[S]
}

func (g *Given[S]) give() { g.To(g.Reply) }

// Timer is a wait until an effect is due.
type Timer struct {
	Key string
	// At is the wall time to wait for, After how far away it is.
	At    time.Time
	After time.Duration
}

// NewCore returns the core of a stream. With start it begins from that state; without,
// it replays the stream first. The commands in first are decided before any owed effect
// is issued.
func NewCore[S, C, E any, F Effect[C]](m *Machine[S, C, E, F], stream eventlog.Stream, logger *slog.Logger, start *Restored[S], first ...C) *Core[S, C, E, F] {
	c := &Core[S, C, E, F]{machine: m, stream: stream, logger: logger}
	if start != nil {
		c.at, c.ready = *start, true
		// A new entity was given its name a moment ago.
		c.freed = start.Version > 0 && m.Free(start.State)
	}
	for _, command := range first {
		c.queue = append(c.queue, &work[S, C, E]{command: command, first: true})
	}
	c.first = len(first)
	return c
}

// Break marks the stream of a core that has not begun as unusable.
func (c *Core[S, C, E, F]) Break(reason string) {
	c.ready, c.broken, c.queue, c.first = false, quarantined(c.stream, reason), nil, 0
}

// Step handles one message at that time. It catches the machine's panics.
func (c *Core[S, C, E, F]) Step(now time.Time, message any) Ready[S, F] {
	c.now, c.out, c.doze = now, Ready[S, F]{}, false
	if p, stack := caught(func() { c.handle(message) }); p != nil {
		c.panicked(p, stack)
	}
	c.rest()
	c.out.Answers, c.waiters.answers = c.waiters.answers, nil
	c.out.Issue, c.effects.issue = c.effects.issue, nil
	c.out.Arm, c.effects.arm = c.effects.arm, nil
	c.out.Disarm, c.effects.disarm = c.effects.disarm, nil
	out := c.out
	c.out = Ready[S, F]{} // it would keep the answers' states until the next step
	return out
}

func caught(f func()) (p any, stack []byte) {
	defer func() {
		if p = recover(); p != nil {
			stack = debug.Stack()
		}
	}()
	f()
	return nil, nil
}

func (c *Core[S, C, E, F]) handle(message any) {
	switch m := message.(type) {
	case Begin:
		switch {
		case c.broken != nil:
		case c.ready:
			c.begin()
		default:
			c.replay()
		}
	case *Ask[S, C, E]:
		c.handled++
		c.enqueue(&work[S, C, E]{command: m.Command, ask: m})
	case Outcome[C]:
		if !c.ending {
			c.enqueue(&work[S, C, E]{command: m.Command, effect: effect{m.Key, m.Resource}})
		}
	case Appended:
		c.appended(m)
	case Replayed[S, E]:
		c.replayed(m)
	case Retry:
		c.retry()
	case Fired:
		c.effects.fired(Timer(m))
		c.dispatch()
	case Doze:
		c.doze = true
	case End:
		c.ending = true
	}
}

// begin continues from a state that was just restored.
func (c *Core[S, C, E, F]) begin() {
	c.next()
	if c.append.work == nil {
		c.dispatch()
	}
}

func (c *Core[S, C, E, F]) enqueue(w *work[S, C, E]) {
	w.arrived = c.now
	switch {
	case c.broken != nil:
		c.salvage(w)
		return
	case c.append.stalled != nil && w.ask != nil:
		c.refuse(w, unavailable(c.stream, c.append.stalled))
		return
	}
	c.queue = append(c.queue, w)
	c.next()
}

// next works on the queue until an append is under way or nothing is left.
func (c *Core[S, C, E, F]) next() {
	for c.ready && c.append.idle() && len(c.queue) > 0 {
		w := dequeue(&c.queue)
		c.append.work = w
		var events []E
		err := w.pointless(c.stream, c.at.Version)
		if err == nil && !c.late(w) {
			events, err = c.machine.Decide(c.at.State, w.command)
		}
		if err == nil && len(events) > 0 {
			if err = c.submit(w, events); err == nil {
				return
			}
		}
		c.append.work = nil
		if err != nil {
			c.reject(w, err)
			continue
		}
		c.accepted(w)
		c.wait(w)
		c.finished(w)
	}
}

// dequeue takes the head of a queue. An empty queue keeps no memory, and no caller.
func dequeue[W any](queue *[]*W) *W {
	w := (*queue)[0]
	(*queue)[0], *queue = nil, (*queue)[1:]
	if len(*queue) == 0 {
		*queue = nil
	}
	return w
}

// pointless refuses a command that joins what never existed: decided here, it would
// begin another entity's life in this one's stream.
func (w *work[S, C, E]) pointless(stream eventlog.Stream, at eventlog.Version) error {
	if w.ask == nil || !w.ask.Joins || at > 0 {
		return nil
	}
	return fault.New(fault.NotFound, "find", string(stream), "it was never created")
}

// late reports whether an outcome arrived after the end. It changes nothing, and must
// not be recorded: the projections have forgotten the stream.
func (c *Core[S, C, E, F]) late(w *work[S, C, E]) bool {
	return w.effect.is() && c.machine.Ended(c.at.State)
}

// reject ends a command that can never become events. The effect of such an outcome
// would be owed again at once, and so without end.
func (c *Core[S, C, E, F]) reject(w *work[S, C, E], err error) {
	c.announceFree()
	c.refuse(w, err)
	if w.effect.is() {
		c.quarantine(fmt.Errorf("the outcome of %q cannot be recorded: %w", w.effect.key, err))
		return
	}
	c.finished(w)
}

// finished ends an effect once its outcome is part of the state.
func (c *Core[S, C, E, F]) finished(w *work[S, C, E]) {
	if w.first {
		c.first--
	}
	c.effects.end(w.effect)
	c.dispatch()
}

// rest reports to the owner when the entity has nothing left to do.
func (c *Core[S, C, E, F]) rest() {
	if (c.ready || c.salvaging) && c.append.idle() && len(c.queue) == 0 && len(c.waiters.all) == 0 && c.effects.none() {
		if p, _ := caught(func() { c.out.Rested = c.machine.Ended(c.at.State) }); p == nil {
			c.out.Handled = c.handled
			c.out.Salvaged = c.out.Rested && c.salvaging
			c.out.Dozes = c.doze && !c.out.Rested && c.ready && c.first == 0 && c.effects.waitNone()
		}
	}
}
