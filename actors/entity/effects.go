package entity

import (
	"maps"
	"slices"
	"time"
)

// effect names an effect that was issued.
type effect struct{ key, resource string }

func (e effect) is() bool { return e.key != "" }

// effects is what a core knows of the effects under way, and of those that wait.
type effects struct {
	// running and busy hold the effects under way and their resources.
	running, busy map[string]bool
	// armed maps an effect that waits for its time to that time; due holds those whose
	// time has passed, whatever the wall clock says since.
	armed, due map[string]time.Time
}

func newEffects() effects {
	return effects{
		running: map[string]bool{}, busy: map[string]bool{},
		armed: map[string]time.Time{}, due: map[string]time.Time{},
	}
}

func (e *effects) none() bool { return len(e.running) == 0 }

func (e *effects) begin(x effect) {
	e.running[x.key], e.busy[x.resource] = true, true
	delete(e.due, x.key)
}

func (e *effects) end(x effect) {
	if x.is() {
		delete(e.running, x.key)
		delete(e.busy, x.resource)
	}
}

func (e *effects) blocks(x effect) bool { return e.running[x.key] || e.busy[x.resource] }

// fired notes that a timer's time has passed, unless it was set anew since.
func (e *effects) fired(t Timer) {
	if at, armed := e.armed[t.Key]; armed && at.Equal(t.At) {
		delete(e.armed, t.Key)
		e.due[t.Key] = at
	}
}

// dispatch issues the effects that are owed and not yet under way.
func (c *Core[S, C, E, F]) dispatch() {
	if !c.ready || c.broken != nil || c.ending || c.first > 0 {
		return
	}
	owed := map[string]bool{}
	for _, f := range c.machine.Owed(c.at.State) {
		x := effect{f.Key(), f.Resource()}
		owed[x.key] = true
		if !c.effects.blocks(x) && !c.waits(x.key, f.NotBefore()) {
			c.issue(f)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.effects.armed)) {
		if !owed[key] {
			c.disarm(key)
		}
	}
	maps.DeleteFunc(c.effects.due, func(key string, _ time.Time) bool { return !owed[key] })
}

// waits reports whether an effect has to wait for its time, and arms its timer. A timer
// that has fired counts even if the clock was set back since.
func (c *Core[S, C, E, F]) waits(key string, notBefore time.Time) bool {
	wait := notBefore.Sub(c.now)
	if due, fired := c.effects.due[key]; wait <= 0 || fired && due.Equal(notBefore) {
		c.disarm(key)
		return false
	}
	if armed, is := c.effects.armed[key]; !is || !armed.Equal(notBefore) {
		c.disarm(key)
		c.effects.armed[key] = notBefore
		c.out.Arm = append(c.out.Arm, Timer{key, notBefore, wait})
	}
	return true
}

func (c *Core[S, C, E, F]) disarm(key string) {
	if _, armed := c.effects.armed[key]; armed {
		delete(c.effects.armed, key)
		c.out.Disarm = append(c.out.Disarm, key)
	}
}

func (c *Core[S, C, E, F]) issue(f F) {
	c.effects.begin(effect{f.Key(), f.Resource()})
	c.out.Issue = append(c.out.Issue, f)
}

// anticipate issues what the durable state has announced, and what will be owed once
// w is part of the state.
func (c *Core[S, C, E, F]) anticipate(w *work[S, C, E]) {
	if !w.effect.is() || c.machine.Announced == nil || c.ending {
		return
	}
	next := c.at.State
	for _, e := range w.events {
		next = c.machine.Evolve(next, e)
	}
	for _, f := range c.machine.Owed(next) {
		if !c.effects.blocks(effect{f.Key(), f.Resource()}) && f.NotBefore().IsZero() && c.machine.Announced(c.at.State, f) {
			c.issue(f)
		}
	}
}
