package entity

import (
	"maps"
	"slices"
	"time"
)

// effect names an effect that was issued.
type effect struct{ key, resource string }

func (e effect) is() bool { return e.key != "" }

// effects are a core's effects under way, and those that wait for their time. Most
// entities rest most of the time, so that an empty map is nil.
type effects[C any, F Effect[C]] struct {
	// running and busy hold the effects under way and their resources.
	running, busy map[string]bool
	// armed holds the times of effects that wait for them; due those that have passed,
	// whatever the wall clock says now.
	armed, due map[string]time.Time
	// This step's work; see Ready.
	issue  []F
	arm    []Timer
	disarm []string
}

func (e *effects[C, F]) none() bool { return len(e.running) == 0 }

// waitNone reports that no effect waits for its time.
func (e *effects[C, F]) waitNone() bool { return len(e.armed) == 0 && len(e.due) == 0 }

// begin issues an effect.
func (e *effects[C, F]) begin(f F) {
	put(&e.running, f.Key(), true)
	put(&e.busy, f.Resource(), true)
	drop(&e.due, f.Key())
	e.issue = append(e.issue, f)
}

// end frees the resource for the next effect.
func (e *effects[C, F]) end(x effect) {
	if x.is() {
		drop(&e.running, x.key)
		drop(&e.busy, x.resource)
	}
}

// blocked reports whether an effect or its resource is busy.
func (e *effects[C, F]) blocked(f F) bool { return e.running[f.Key()] || e.busy[f.Resource()] }

// fired notes that a timer has fired, unless it was replaced since.
func (e *effects[C, F]) fired(t Timer) {
	if at, armed := e.armed[t.Key]; armed && at.Equal(t.At) {
		drop(&e.armed, t.Key)
		put(&e.due, t.Key, at)
	}
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

func drop[V any](m *map[string]V, key string) {
	delete(*m, key)
	if len(*m) == 0 {
		*m = nil
	}
}

// dispatch issues what is owed and not yet under way, or arms a timer for it.
func (e *effects[C, F]) dispatch(owed []F, now time.Time) {
	for _, f := range owed {
		if !e.blocked(f) && !e.waits(f, now) {
			e.begin(f)
		}
	}
	if len(e.armed) > 0 || len(e.due) > 0 {
		e.forget(owed)
	}
}

// forget drops the times of effects that are no longer owed.
func (e *effects[C, F]) forget(owed []F) {
	keys := make(map[string]bool, len(owed))
	for _, f := range owed {
		keys[f.Key()] = true
	}
	for _, key := range slices.Sorted(maps.Keys(e.armed)) {
		if !keys[key] {
			e.stop(key)
		}
	}
	maps.DeleteFunc(e.due, func(key string, _ time.Time) bool { return !keys[key] })
}

// waits reports whether an effect must wait for its time, and arms its timer. A fired
// timer counts even if the clock was set back since.
func (e *effects[C, F]) waits(f F, now time.Time) bool {
	key, notBefore := f.Key(), f.NotBefore()
	wait := notBefore.Sub(now)
	if due, fired := e.due[key]; wait <= 0 || fired && due.Equal(notBefore) {
		e.stop(key)
		return false
	}
	if armed, is := e.armed[key]; !is || !armed.Equal(notBefore) {
		e.stop(key)
		put(&e.armed, key, notBefore)
		e.arm = append(e.arm, Timer{key, notBefore, wait})
	}
	return true
}

// stop disarms a timer.
func (e *effects[C, F]) stop(key string) {
	if _, armed := e.armed[key]; armed {
		drop(&e.armed, key)
		e.disarm = append(e.disarm, key)
	}
}

// dispatch issues the effects that are owed and not yet under way.
func (c *Core[S, C, E, F]) dispatch() {
	usable := c.ready && c.broken == nil && c.first == 0
	if (usable || c.salvaging) && !c.ending {
		c.effects.dispatch(c.machine.Owed(c.at.State), c.now)
	}
}

// anticipate issues effects that the durable state has announced and that will be owed
// once w is part of the state.
func (c *Core[S, C, E, F]) anticipate(w *work[S, C, E]) {
	if !w.effect.is() || c.machine.Announced == nil || c.ending {
		return
	}
	next := c.at.State
	for _, e := range w.events {
		next = c.machine.Evolve(next, e)
	}
	for _, f := range c.machine.Owed(next) {
		if !c.effects.blocked(f) && f.NotBefore().IsZero() && c.machine.Announced(c.at.State, f) {
			c.effects.begin(f)
		}
	}
}
