package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/eventlog"
)

// effect is what the shell needs to know of an effect.
type effect interface {
	Key() string
	Resource() string
	NotBefore() time.Time
}

// machine is the three functions, and who carries out the effects.
type machine[S, C, E any, F effect] struct {
	decide func(S, C) ([]E, error)
	evolve func(S, E) S
	owed   func(S) []F
	// announced: see actors/entity.
	announced func(S, F) bool
	volatile  func(E) bool
	encode    func(E) (codec.Encoded, error)
	decode    decoder[E]
	// issue carries out an effect in the world and calls outcome with the next
	// command, at once or later.
	issue func(f F, outcome func(C))
	// evolved is called after every event, to watch it.
	evolved func(id string, s S, e E)
}

type answer[S, E any] func(S, E) (bool, error)

// entity is the shell of one machine: what actors/entity is to the real ones.
type entity[S, C, E any, F effect] struct {
	daemon  *daemon
	machine *machine[S, C, E, F]
	stream  eventlog.Stream
	state   S
	place   place
	waiters []*waiter[S, E]
	// running are the effects under way, by resource, and outcomes are those of them
	// that are done and whose outcome is not recorded yet.
	running  map[string]F
	outcomes map[string]C
}

type waiter[S, E any] struct {
	until answer[S, E]
	reply func(error)
}

func newEntity[S, C, E any, F effect](d *daemon, m *machine[S, C, E, F], stream eventlog.Stream) *entity[S, C, E, F] {
	return &entity[S, C, E, F]{daemon: d, machine: m, stream: stream, running: map[string]F{}, outcomes: map[string]C{}}
}

// id is the name of the entity without its kind.
func (e *entity[S, C, E, F]) id() string {
	_, id, _ := strings.Cut(string(e.stream), "/")
	return id
}

// ask gives the entity a command; reply gets the answer when until says so. Both
// may be nil.
func (e *entity[S, C, E, F]) ask(c C, until answer[S, E], reply func(error)) {
	if reply == nil {
		reply = func(error) {}
	}
	events, err := e.machine.decide(e.state, c)
	if err != nil {
		reply(err)
		return
	}
	if len(events) > 0 {
		if err := e.append(events); err != nil {
			reply(fault.New(fault.Unavailable, "append to the event log", string(e.stream), "%v", err))
			return
		}
	}
	w := &waiter[S, E]{until, reply}
	var none E
	if until == nil {
		reply(nil)
	} else if !e.answered(w, none) {
		e.waiters = append(e.waiters, w)
	}
}

// append makes the events durable, and only then true.
func (e *entity[S, C, E, F]) append(events []E) error {
	var encoded []codec.Encoded
	volatile := true
	for _, event := range events {
		volatile = volatile && e.machine.volatile(event)
		x, err := e.machine.encode(event)
		must(err)
		encoded = append(encoded, x)
	}
	at, err := e.daemon.log.append(e.stream, e.place, encoded, volatile)
	if err != nil {
		return err
	}
	e.place = at
	e.daemon.run.note("    %s: %s", e.stream, machinetest.Describe(events))
	e.daemon.run.point()
	for _, event := range events {
		e.state = e.machine.evolve(e.state, event)
		e.machine.evolved(e.id(), e.state, event)
		e.waiters = slices.DeleteFunc(e.waiters, func(w *waiter[S, E]) bool { return e.answered(w, event) })
	}
	return nil
}

// restore gives the entity its past.
func (e *entity[S, C, E, F]) restore() {
	e.state, e.place = restore(e.daemon.log, e.stream, e.machine.decode, e.machine.evolve)
}

// save makes a snapshot.
func (e *entity[S, C, E, F]) save() { save(e.daemon.log, e.stream, e.state, e.place) }

func (e *entity[S, C, E, F]) answered(w *waiter[S, E], event E) bool {
	done, err := w.until(e.state, event)
	if done {
		w.reply(err)
	}
	return done
}

// due are the effects that can begin now, in the order in which they are owed.
func (e *entity[S, C, E, F]) due() []F {
	free := func(effects []F) []F {
		return slices.DeleteFunc(effects, func(f F) bool {
			_, busy := e.running[f.Resource()]
			return busy || f.NotBefore().After(e.daemon.run.now)
		})
	}
	due := free(e.machine.owed(e.state))
	for _, resource := range sortedKeys(e.outcomes) {
		events, err := e.machine.decide(e.state, e.outcomes[resource])
		if err != nil {
			continue
		}
		next := e.state
		for _, event := range events {
			next = e.machine.evolve(next, event)
		}
		for _, f := range free(e.machine.owed(next)) {
			if e.machine.announced(e.state, f) {
				due = append(due, f)
			}
		}
	}
	return due
}

// jobs are the moves that begin effects.
func (e *entity[S, C, E, F]) jobs() []move {
	var moves []move
	resources := map[string]bool{}
	for _, f := range e.due() {
		// What is owed first on a resource begins first.
		if resources[f.Resource()] {
			continue
		}
		resources[f.Resource()] = true
		moves = append(moves, move{"begin " + f.Key() + " of " + string(e.stream), func() { e.begin(f) }})
	}
	return moves
}

// begin makes an effect a job: its work, and later the delivery of its outcome,
// are moves of their own, so that anything can happen in between.
func (e *entity[S, C, E, F]) begin(f F) {
	e.running[f.Resource()] = f
	name := f.Key() + " of " + string(e.stream)
	e.daemon.later("do "+name, false, func() {
		e.machine.issue(f, func(c C) {
			e.outcomes[f.Resource()] = c
			e.daemon.later("outcome of "+name, true, func() {
				delete(e.running, f.Resource())
				delete(e.outcomes, f.Resource())
				e.ask(c, nil, nil)
			})
		})
	})
}

// next is the earliest time at which something that is owed becomes due.
func (e *entity[S, C, E, F]) next() time.Time {
	var next time.Time
	for _, f := range e.machine.owed(e.state) {
		if at := f.NotBefore(); at.After(e.daemon.run.now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
