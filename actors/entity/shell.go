package entity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

const (
	// appendRetry is how long an outcome waits when the log refuses it.
	appendRetry = 500 * time.Millisecond
	// panicsMost is how many panics in a row, without an append in between, make the
	// shell give up on a stream.
	panicsMost = 5
)

// Surroundings is what a shell needs beside its machine.
type Surroundings struct {
	Log    eventlog.Log
	Logger *slog.Logger
	// Context is done when the daemon stops. Effects get it, and what they
	// report after it is done is dropped: it says something about the daemon's
	// end, not about the effect, which stays owed.
	Context context.Context
	// Go runs an effect or a replay; the daemon's end waits for it. Once the daemon
	// is ending it may drop the function.
	Go func(func())
	// Held counts the time in which something was ready to go on and waited for the
	// log. It may be nil.
	Held func(time.Duration)
	// Ended tells the owner that nothing is under way in this actor, after `handled`
	// Asks.
	Ended func(stream eventlog.Stream, self *actor.PID, handled uint64)
	// Freed tells the owner that the entity's name may be taken. It is called
	// before any caller learns it.
	Freed func(stream eventlog.Stream)
	// Quarantined tells the owner that the stream cannot be used.
	Quarantined func(stream eventlog.Stream, reason error)
}

// Props describes the actor of one stream. With start it begins from that
// state; without, it replays the stream first. The commands in first are decided
// before anything is issued that the state owes.
func Props[S, C, E any, F Effect](m *Machine[S, C, E, F], around Surroundings, stream eventlog.Stream, start *Restored[S], first ...C) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		s := &shell[S, C, E, F]{
			machine: m, around: around, stream: stream,
			logger:  around.Logger.With("stream", string(stream)),
			running: map[string]bool{}, busy: map[string]bool{}, timers: map[string]*time.Timer{},
		}
		if start != nil {
			s.at, s.ready = *start, true
			// What has not begun was given its name a moment ago.
			s.freed = start.Version > 0 && m.Free(start.State)
		}
		for _, c := range first {
			s.queue = append(s.queue, &work[S, C, E]{command: c})
		}
		return s
	})
}

// shell is the actor. Its fields belong to its mailbox.
type shell[S, C, E any, F Effect] struct {
	machine *Machine[S, C, E, F]
	around  Surroundings
	stream  eventlog.Stream
	logger  *slog.Logger

	self *actor.PID
	send func(message any) // to this actor's own mailbox
	at   Restored[S]
	// ready: at is the stream's state. Otherwise a replay is under way.
	ready bool
	// broken is why the stream is not used any more.
	broken error
	// inFlight is what is being appended; queue waits behind it, in order. unsure is
	// why nobody can say whether it was: the stream is being read to find out.
	inFlight *work[S, C, E]
	unsure   error
	queue    []*work[S, C, E]
	// stalled is why the log refused the head of the queue, which is tried again.
	stalled error
	waiters []*waiter[S, E]
	// running and busy hold the effects under way and their resources.
	running, busy map[string]bool
	timers        map[string]*time.Timer
	handled       uint64
	// moved counts answers and effects: what goes on after an append.
	moved  uint64
	panics int
	// freed: the owner knows that the name may be taken.
	freed bool
}

// work is a command with where it came from: a caller or an effect.
type work[S, C, E any] struct {
	command C
	ask     *Ask[S, C, E]
	effect  *effectDone[C]
	events  []E
	// came is when the command did, sent when its events were given to the log.
	came, sent time.Time
	// ahead: the caller went on when the events were given to the log.
	ahead bool
}

type waiter[S, E any] struct {
	until Answer[S, E]
	reply func(Reply[S])
	gone  <-chan struct{}
}

// Messages of the shell to itself.
type (
	effectDone[C any] struct {
		key, resource string
		outcome       C
	}
	appended[S, C, E any] struct {
		work    *work[S, C, E]
		records []eventlog.Record
		err     error
	}
	replayed[S, E any] struct {
		at Restored[S]
		// missed are the events behind the state that the shell had.
		missed []step[S, E]
		err    error
	}
	retryAppend struct{}
	timerFired  struct{ key string }
)

// Receive handles one message. A panic of the machine ends here.
func (s *shell[S, C, E, F]) Receive(ctx actor.Context) {
	defer func() {
		if p := recover(); p != nil {
			s.recovered(p)
		}
	}()
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		self, root := ctx.Self(), ctx.ActorSystem().Root
		s.self = self
		s.send = func(message any) { root.Send(self, message) }
		if s.ready {
			s.begin()
		} else {
			s.replay()
		}
	case *actor.Stopping:
		for _, t := range s.timers {
			t.Stop()
		}
	case *Ask[S, C, E]:
		s.handled++
		s.enqueue(&work[S, C, E]{command: msg.Command, ask: msg})
	case *effectDone[C]:
		if s.around.Context.Err() == nil {
			s.enqueue(&work[S, C, E]{command: msg.outcome, effect: msg})
		}
	case *appended[S, C, E]:
		s.appended(msg)
	case *replayed[S, E]:
		s.replayed(msg)
	case retryAppend:
		s.stalled = nil
		s.next()
	case timerFired:
		delete(s.timers, msg.key)
		s.dispatch()
	}
	s.rest()
}

func (s *shell[S, C, E, F]) enqueue(w *work[S, C, E]) {
	w.came = time.Now()
	switch {
	case s.broken != nil:
		s.refuse(w, s.broken)
		return
	case s.stalled != nil && w.ask != nil:
		s.refuse(w, s.unavailable(s.stalled))
		return
	}
	s.queue = append(s.queue, w)
	s.next()
}

// next works on the queue until an append is under way or nothing is left.
func (s *shell[S, C, E, F]) next() {
	for s.ready && s.stalled == nil && s.inFlight == nil && len(s.queue) > 0 {
		w := s.queue[0]
		s.queue = s.queue[1:]
		s.inFlight = w
		var events []E
		err := s.pointless(w)
		if err == nil && !s.late(w) {
			events, err = s.machine.Decide(s.at.State, w.command)
		}
		switch {
		case err != nil:
			s.inFlight = nil
			s.reject(w, err)
		case len(events) == 0:
			s.inFlight = nil
			w.accepted()
			s.wait(w)
			s.finished(w)
		default:
			w.events = events
			s.append(w)
		}
	}
}

// pointless refuses a command that joins what never came to be: decided here, it
// would begin another entity's life in this one's stream.
func (s *shell[S, C, E, F]) pointless(w *work[S, C, E]) error {
	if w.ask == nil || !w.ask.Joins || s.at.Version > 0 {
		return nil
	}
	return fault.New(fault.NotFound, "find", string(s.stream), "it did not come to be")
}

// late reports whether an outcome comes after the end. It changes nothing any more,
// and must not be told: the projections have forgotten the stream.
func (s *shell[S, C, E, F]) late(w *work[S, C, E]) bool {
	return w.effect != nil && s.machine.Ended(s.at.State)
}

// reject ends a command that cannot become events, whatever is done. An outcome of
// that kind would be owed again at once, and so without end.
func (s *shell[S, C, E, F]) reject(w *work[S, C, E], err error) {
	s.announceFree()
	s.refuse(w, err)
	if w.effect != nil {
		s.quarantine(fmt.Errorf("the outcome of %q cannot be recorded: %w", w.effect.key, err))
		return
	}
	s.finished(w)
}

func (s *shell[S, C, E, F]) append(w *work[S, C, E]) {
	a := eventlog.Append{Stream: s.stream, Expected: s.at.Version, Volatile: s.machine.Volatile != nil}
	cause := eventlog.Cause{Command: fmt.Sprintf("%T", w.command)}
	if w.ask != nil {
		cause.Trace = w.ask.Trace
	} else {
		cause.Event = s.at.Sequence
	}
	for _, e := range w.events {
		encoded, err := s.machine.Encode(e)
		if err != nil {
			s.inFlight = nil
			s.reject(w, fmt.Errorf("encode %T: %w", e, err))
			return
		}
		a.Volatile = a.Volatile && s.machine.Volatile(e)
		a.Entries = append(a.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Cause: cause, Payload: encoded.Payload})
	}
	send := s.send
	w.sent = time.Now()
	s.around.Log.AppendAsync(a, func(records []eventlog.Record, err error) {
		send(&appended[S, C, E]{w, records, err})
	})
	w.accepted()
	s.anticipate(w)
}

// accepted tells the caller that the command was not refused, once.
func (w *work[S, C, E]) accepted() {
	if w.ask != nil && w.ask.Accepted != nil {
		accepted := w.ask.Accepted
		w.ask.Accepted, w.ahead = nil, true
		accepted()
	}
}

// anticipate issues what the durable state has announced, and what will be owed once
// w is part of the state.
func (s *shell[S, C, E, F]) anticipate(w *work[S, C, E]) {
	if w.effect == nil || s.machine.Announced == nil || s.around.Context.Err() != nil {
		return
	}
	next := s.at.State
	for _, e := range w.events {
		next = s.machine.Evolve(next, e)
	}
	for _, f := range s.machine.Owed(next) {
		if !s.running[f.Key()] && !s.busy[f.Resource()] && f.NotBefore().IsZero() && s.machine.Announced(s.at.State, f) {
			s.issue(f)
		}
	}
}

func (s *shell[S, C, E, F]) appended(msg *appended[S, C, E]) {
	w := msg.work
	if w != s.inFlight {
		return // the append of a state that was given up after a panic
	}
	moved := s.moved
	if msg.err == nil {
		s.panics = 0
		s.evolve(w, msg.records)
	}
	if errors.Is(msg.err, eventlog.ErrOutcomeUnknown) {
		// Only the stream can say what is true now.
		s.unsure, s.stalled = msg.err, msg.err
		s.replay()
		return
	}
	s.inFlight = nil
	switch {
	case msg.err == nil:
		s.finished(w)
		s.held(w, moved)
	case errors.Is(msg.err, eventlog.ErrClosed):
		s.refuse(w, s.unavailable(msg.err))
	case errors.Is(msg.err, eventlog.ErrUnavailable):
		s.refusedByLog(w, msg.err)
	case errors.Is(msg.err, eventlog.ErrWrongVersion):
		s.logger.Error("two writers on one stream", "error", msg.err)
		s.refusedByLog(w, msg.err)
		s.replay()
	case errors.Is(msg.err, eventlog.ErrCorrupt):
		s.refuse(w, msg.err)
		s.quarantine(msg.err)
	default:
		s.logger.Error("append refused", "error", msg.err)
		s.reject(w, msg.err)
	}
	s.next()
}

// held counts how long something waited for an append: what went on with it, or else
// what came meanwhile.
func (s *shell[S, C, E, F]) held(w *work[S, C, E], moved uint64) {
	switch {
	case s.around.Held == nil:
	case s.moved != moved:
		s.around.Held(time.Since(w.sent))
	case len(s.queue) > 0:
		s.around.Held(time.Since(s.queue[0].came))
	}
}

// refusedByLog keeps an outcome until the log takes it, and turns callers away,
// who can ask again.
func (s *shell[S, C, E, F]) refusedByLog(w *work[S, C, E], err error) {
	refused := s.unavailable(err)
	if w.ask != nil {
		s.announceFree()
		s.refuse(w, refused)
		return
	}
	kept := []*work[S, C, E]{w}
	for _, waits := range s.queue {
		if waits.ask != nil {
			s.refuse(waits, refused)
			continue
		}
		kept = append(kept, waits)
	}
	s.queue, s.stalled = kept, err
	send := s.send
	time.AfterFunc(appendRetry, func() { send(retryAppend{}) })
}

// evolve takes in what is durable now and answers whom it concerns.
func (s *shell[S, C, E, F]) evolve(w *work[S, C, E], records []eventlog.Record) {
	for i, e := range w.events {
		s.take(step[S, E]{e, As(records[i], s.machine.Evolve(s.at.State, e))})
	}
	s.wait(w)
}

// take goes on to the state that an event led to.
func (s *shell[S, C, E, F]) take(now step[S, E]) {
	s.at = now.at
	s.announceFree()
	s.waiters = slices.DeleteFunc(s.waiters, func(x *waiter[S, E]) bool { return s.answered(x, now.event) })
}

// announceFree tells the owner once that the name is free.
func (s *shell[S, C, E, F]) announceFree() {
	if free := s.machine.Free(s.at.State); free != s.freed {
		s.freed = free
		if free {
			s.around.Freed(s.stream)
		}
	}
}

func (s *shell[S, C, E, F]) wait(w *work[S, C, E]) {
	if w.ask == nil || w.ask.Reply == nil {
		return
	}
	if w.ask.Until == nil {
		if !w.ahead {
			s.moved++
		}
		w.ask.Reply(s.reply(nil))
		return
	}
	x := &waiter[S, E]{until: w.ask.Until, reply: w.ask.Reply, gone: w.ask.Gone}
	var none E
	if !s.answered(x, none) {
		s.waiters = append(s.waiters, x)
	}
}

// answered reports whether the waiter needs to wait no longer.
func (s *shell[S, C, E, F]) answered(x *waiter[S, E], e E) bool {
	select {
	case <-x.gone:
		return true
	default:
	}
	done, err := x.until(s.at.State, e)
	if done {
		s.moved++
		x.answer(s.reply(err))
	}
	return done
}

// answer gives the answer once: a panic can interrupt the walk through the waiters
// in which this one was being taken off.
func (x *waiter[S, E]) answer(r Reply[S]) {
	if reply := x.reply; reply != nil {
		x.reply = nil
		reply(r)
	}
}

func (s *shell[S, C, E, F]) reply(err error) Reply[S] {
	return Reply[S]{State: s.at.State, Sequence: s.at.Sequence, Err: err}
}

func (s *shell[S, C, E, F]) refuse(w *work[S, C, E], err error) {
	if w.ask != nil && w.ask.Reply != nil {
		w.ask.Reply(s.reply(err))
	}
}

// finished ends an effect once its outcome is part of the state.
func (s *shell[S, C, E, F]) finished(w *work[S, C, E]) {
	if w.effect != nil {
		delete(s.running, w.effect.key)
		delete(s.busy, w.effect.resource)
	}
	s.dispatch()
}

// dispatch issues the effects that are owed and not yet under way.
func (s *shell[S, C, E, F]) dispatch() {
	if !s.ready || s.broken != nil || s.around.Context.Err() != nil {
		return
	}
	owed := map[string]bool{}
	for _, f := range s.machine.Owed(s.at.State) {
		key := f.Key()
		owed[key] = true
		if s.running[key] || s.busy[f.Resource()] {
			continue
		}
		if wait := time.Until(f.NotBefore()); wait > 0 {
			if s.timers[key] == nil {
				send := s.send
				s.timers[key] = time.AfterFunc(wait, func() { send(timerFired{key}) })
			}
			continue
		}
		s.issue(f)
	}
	for key, t := range s.timers {
		if !owed[key] {
			t.Stop()
			delete(s.timers, key)
		}
	}
}

func (s *shell[S, C, E, F]) issue(f F) {
	s.moved++
	s.running[f.Key()], s.busy[f.Resource()] = true, true
	send, machine, around, logger := s.send, s.machine, s.around, s.logger
	around.Go(func() {
		done := &effectDone[C]{key: f.Key(), resource: f.Resource()}
		defer func() {
			if p := recover(); p != nil {
				logger.Error("effect panicked", "effect", f.Key(), "panic", p, "stack", string(debug.Stack()))
				done.outcome = machine.Failed(f, fault.New(fault.Internal, f.Key(), string(s.stream), "panic: %v", p))
			}
			send(done)
		}()
		logger.Debug("effect", "effect", f.Key())
		done.outcome = machine.Execute(around.Context, f)
	})
}

// recovered answers the command that led to a panic and rebuilds the state from
// what is durable. Effects that are under way stay under way.
func (s *shell[S, C, E, F]) recovered(p any) {
	s.panics++
	err := fault.New(fault.Internal, "decide", string(s.stream), "panic: %v", p)
	s.logger.Error("machine panicked", "panic", p, "stack", string(debug.Stack()))
	if w := s.inFlight; w != nil {
		s.inFlight = nil
		s.refuse(w, err)
		if w.effect != nil {
			delete(s.running, w.effect.key)
			delete(s.busy, w.effect.resource)
		}
	}
	if s.unsure != nil {
		s.unsure, s.stalled = nil, nil
	}
	s.refuseWaiters(err)
	if s.panics >= panicsMost {
		s.quarantine(fmt.Errorf("%d panics in a row, the last one: %w", s.panics, err))
		return
	}
	s.replay()
}

// replay reads the stream. While the log cannot be read, it tries again.
func (s *shell[S, C, E, F]) replay() {
	s.ready = false
	send, machine, around, stream, logger := s.send, s.machine, s.around, s.stream, s.logger
	seen := allSeen
	if s.unsure != nil || len(s.waiters) > 0 {
		seen = s.at.Version
	}
	around.Go(func() {
		for {
			at, missed, err := replay(around.Context, machine, around.Log, stream, seen)
			if !errors.Is(err, eventlog.ErrUnavailable) || around.Context.Err() != nil {
				send(&replayed[S, E]{at, missed, err})
				return
			}
			logger.Warn("replay is tried again", "error", err)
			select {
			case <-time.After(appendRetry):
			case <-around.Context.Done():
			}
		}
	})
}

func (s *shell[S, C, E, F]) replayed(msg *replayed[S, E]) {
	switch {
	case s.around.Context.Err() != nil:
		s.broken = s.unavailable(s.around.Context.Err())
		s.refuseAll(s.broken)
	case msg.err != nil:
		s.quarantine(msg.err)
	default:
		for _, missed := range msg.missed {
			s.take(missed)
		}
		s.at, s.ready = msg.at, true
		s.settle(len(msg.missed) > 0)
		s.announceFree()
		s.begin()
	}
}

// settle goes on with an append whose outcome was unknown until the stream was
// read. Nobody else writes there: what is new in it is what was appended.
func (s *shell[S, C, E, F]) settle(there bool) {
	w, err := s.inFlight, s.unsure
	if err == nil {
		return
	}
	s.inFlight, s.unsure, s.stalled = nil, nil, nil
	if !there {
		s.refusedByLog(w, err)
		return
	}
	s.wait(w)
	s.finished(w)
}

// begin goes on from a state that was just restored. What waits in the queue is
// decided first, for it may change what is owed.
func (s *shell[S, C, E, F]) begin() {
	s.next()
	if s.inFlight == nil {
		s.dispatch()
	}
}

// quarantine leaves the stream alone: nothing is decided on a state that may
// not be the true one.
func (s *shell[S, C, E, F]) quarantine(reason error) {
	s.logger.Error("stream is quarantined", "error", reason)
	s.ready = false
	s.broken = fault.New(fault.Internal, "use", string(s.stream), "the stream is quarantined: %v", reason)
	s.around.Quarantined(s.stream, reason)
	s.refuseAll(s.broken)
}

func (s *shell[S, C, E, F]) refuseAll(err error) {
	if w := s.inFlight; w != nil {
		s.inFlight, s.unsure = nil, nil
		s.refuse(w, err)
	}
	for _, w := range s.queue {
		s.refuse(w, err)
	}
	s.queue = nil
	s.refuseWaiters(err)
}

func (s *shell[S, C, E, F]) refuseWaiters(err error) {
	for _, x := range s.waiters {
		// Those who were being taken off leave holes behind.
		if x != nil {
			x.answer(s.reply(err))
		}
	}
	s.waiters = nil
}

func (s *shell[S, C, E, F]) unavailable(err error) error {
	return fault.New(fault.Unavailable, "append to the event log", string(s.stream), "%v", err)
}

// rest tells the owner when the actor has nothing to live for.
func (s *shell[S, C, E, F]) rest() {
	if s.ready && s.inFlight == nil && len(s.queue) == 0 && len(s.waiters) == 0 && len(s.running) == 0 && s.machine.Ended(s.at.State) {
		s.around.Ended(s.stream, s.self, s.handled)
	}
}
