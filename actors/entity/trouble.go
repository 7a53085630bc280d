package entity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// panicsMost is after how many panics in a row, without an append in between, a core
// gives up on a stream.
const panicsMost = 5

// panicked answers the command that led to a panic and rebuilds the state from what is
// durable. Effects under way stay under way; if an outcome panicked, its effect is owed
// again.
func (c *Core[S, C, E, F]) panicked(p any, stack []byte) {
	c.panics++
	err := fault.New(fault.Internal, "decide", string(c.stream), "panic: %v", p)
	c.logger.Error("machine panicked", "stream", string(c.stream), "panic", p, "stack", string(stack))
	if w := c.append.work; w != nil {
		c.refuse(w, err)
		c.effects.end(w.effect)
		if w.first {
			c.queue = slices.Insert(c.queue, 0, w)
		}
	}
	if c.append.unsure != nil {
		c.append.unsure, c.append.stalled = nil, nil
	}
	c.append.work = nil
	c.waiters.refuse(&c.at, err)
	if c.panics >= panicsMost {
		c.quarantine(fmt.Errorf("%d panics in a row, the last one: %w", c.panics, err))
		return
	}
	c.replay()
}

// replay has the stream read. It waits for an append under way, which the stream would
// not show yet.
func (c *Core[S, C, E, F]) replay() {
	c.ready = false
	if c.replaying || c.append.underWay || c.broken != nil {
		return
	}
	c.replaying = true
	c.out.Replay = &Replay{Behind: allSeen}
	if c.append.unsure != nil || len(c.waiters.all) > 0 {
		c.out.Replay.Behind = c.at.Version
	}
}

func (c *Core[S, C, E, F]) replayed(m Replayed[S, E]) {
	c.replaying = false
	switch {
	case c.broken != nil:
	case c.ending:
		c.broken = unavailable(c.stream, errors.New("the daemon is stopping"))
		c.refuseAll(c.broken)
	case errors.Is(m.Err, eventlog.ErrUnavailable):
		c.logger.Warn("replay will be retried", "stream", string(c.stream), "error", m.Err)
		c.out.RetryAfter = appendRetry
	case m.Err != nil:
		c.quarantine(m.Err)
	default:
		for _, missed := range m.Missed {
			c.at = missed.At
			c.tell(missed.Event)
		}
		c.at, c.ready = m.At, true
		c.settle(len(m.Missed) > 0)
		c.begin()
		// A new entity keeps its name for the command that is about to begin it.
		if c.at.Version > 0 || c.append.work == nil && len(c.queue) == 0 {
			c.announceFree()
		}
	}
}

// quarantine leaves the stream alone: nothing is decided on a state that may be wrong.
func (c *Core[S, C, E, F]) quarantine(reason error) {
	c.logger.Error("stream is quarantined", "stream", string(c.stream), "error", reason)
	c.ready, c.salvaging = false, false
	c.broken = quarantined(c.stream, reason)
	c.out.Quarantined = reason
	c.refuseAll(c.broken)
}

func quarantined(stream eventlog.Stream, reason any) error {
	return fault.New(fault.Internal, "use", string(stream), "the stream is quarantined: %v", reason)
}

// salvage decides a command or an outcome on an unusable stream, in memory. The entity can
// be ended; everything else is refused.
func (c *Core[S, C, E, F]) salvage(w *work[S, C, E]) {
	c.effects.end(w.effect)
	if c.machine.Salvage == nil || w.effect.is() && !c.salvaging {
		c.refuse(w, c.broken)
		return
	}
	var events []E
	var known bool
	if w.effect.is() {
		if c.machine.Ended(c.at.State) {
			return
		}
		decided, err := c.machine.Decide(c.at.State, w.command)
		events, known = decided, err == nil
	} else {
		var ends bool
		events, ends, known = c.machine.Salvage(c.at.State, w.command)
		c.salvaging = c.salvaging || ends && known
	}
	if !known {
		c.refuse(w, c.broken)
		return
	}
	c.accepted(w)
	for _, e := range events {
		c.at.State = c.machine.Evolve(c.at.State, e)
		c.tell(e)
	}
	c.wait(w)
	c.dispatch()
}
