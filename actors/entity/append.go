package entity

import (
	"errors"
	"fmt"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// appendRetry is the pause after the log refused an outcome or could not be read for a
// replay.
const appendRetry = 500 * time.Millisecond

// appending is a core's append.
type appending[S, C, E any] struct {
	// work is what is being decided or appended.
	work *work[S, C, E]
	// underWay: the log has not answered yet.
	underWay bool
	// unsure is why it is unknown whether work was appended: the stream is being read to
	// find out.
	unsure error
	// stalled is why the log refused the head of the queue, which is retried.
	stalled error
}

func (a *appending[S, C, E]) idle() bool {
	return a.work == nil && !a.underWay && a.stalled == nil
}

// submit sends events to the log. An error says that they cannot be encoded.
func (c *Core[S, C, E, F]) submit(w *work[S, C, E], events []E) error {
	a := &eventlog.Append{Stream: c.stream, Expected: c.at.Version, Volatile: c.machine.Volatile != nil}
	cause := eventlog.Cause{Command: fmt.Sprintf("%T", w.command)}
	if w.ask != nil {
		cause.Trace = w.ask.Trace
	} else {
		cause.Event = c.at.Sequence
	}
	for _, e := range events {
		encoded, err := c.machine.Encode(e)
		if err != nil {
			return fmt.Errorf("encode %T: %w", e, err)
		}
		a.Volatile = a.Volatile && c.machine.Volatile(e)
		a.Entries = append(a.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Cause: cause, Payload: encoded.Payload})
	}
	w.events, w.sent = events, c.now
	c.append.underWay, c.out.Append = true, a
	c.accepted(w)
	c.anticipate(w)
	return nil
}

// accepted tells the caller, once, that the command was not refused.
func (c *Core[S, C, E, F]) accepted(w *work[S, C, E]) {
	if w.ask != nil && w.ask.Accepted != nil {
		c.out.Accepted = append(c.out.Accepted, w.ask.Accepted)
		w.ask.Accepted, w.ahead = nil, true
	}
}

func (c *Core[S, C, E, F]) appended(m Appended) {
	c.append.underWay = false
	w := c.append.work
	if w == nil {
		// A panic gave it up. The stream shows whether it was appended.
		c.replay()
		return
	}
	if m.Err == nil {
		c.panics = 0
		for i, e := range w.events {
			c.at = As(m.Records[i], c.machine.Evolve(c.at.State, e))
			c.tell(e)
		}
		c.append.work = nil
		c.wait(w)
		c.finished(w)
		c.held(w)
		c.next()
		return
	}
	c.notAppended(w, m.Err)
	c.next()
}

func (c *Core[S, C, E, F]) notAppended(w *work[S, C, E], err error) {
	if errors.Is(err, eventlog.ErrOutcomeUnknown) {
		// Only the stream shows what is true now.
		c.append.unsure, c.append.stalled = err, err
		c.replay()
		return
	}
	c.append.work = nil
	switch {
	case errors.Is(err, eventlog.ErrClosed):
		c.refuse(w, unavailable(c.stream, err))
	case errors.Is(err, eventlog.ErrUnavailable):
		c.refusedByLog(w, err)
	case errors.Is(err, eventlog.ErrWrongVersion):
		c.logger.Error("two writers on one stream", "stream", string(c.stream), "error", err)
		c.refusedByLog(w, err)
		c.replay()
	case errors.Is(err, eventlog.ErrCorrupt):
		c.refuse(w, err)
		c.quarantine(err)
	default:
		c.logger.Error("append refused", "stream", string(c.stream), "error", err)
		c.reject(w, err)
	}
}

// tell answers the callers who waited for the event that led to the current state.
func (c *Core[S, C, E, F]) tell(e E) {
	c.announceFree()
	c.waiters.tell(&c.at, e)
}

// refusedByLog keeps an outcome until the log takes it, and an accepted command, since
// its caller has gone on. It refuses other commands; their callers can ask again.
func (c *Core[S, C, E, F]) refusedByLog(w *work[S, C, E], err error) {
	refused := unavailable(c.stream, err)
	if w.ask != nil && !w.ahead {
		c.announceFree()
		c.refuse(w, refused)
		return
	}
	kept := []*work[S, C, E]{w}
	for _, waits := range c.queue {
		if waits.ask != nil {
			c.refuse(waits, refused)
			continue
		}
		kept = append(kept, waits)
	}
	c.queue, c.append.stalled = kept, err
	c.out.RetryAfter = appendRetry
}

// retry resumes what waited for the log.
func (c *Core[S, C, E, F]) retry() {
	if c.append.unsure == nil {
		c.append.stalled = nil
	}
	if !c.ready {
		c.replay()
		return
	}
	c.next()
}

// settle resumes after an append whose outcome was unknown until the stream was read.
// Nobody else writes there: whatever is new in it is that append.
func (c *Core[S, C, E, F]) settle(there bool) {
	w, err := c.append.work, c.append.unsure
	if err == nil {
		return
	}
	c.append = appending[S, C, E]{}
	if !there {
		c.refusedByLog(w, err)
		return
	}
	c.wait(w)
	c.finished(w)
}

// held measures the wait for an append: of this step's answers and effects, or else of
// what arrived meanwhile. A caller that went ahead did not wait.
func (c *Core[S, C, E, F]) held(w *work[S, C, E]) {
	moved := len(c.waiters.answers) + len(c.effects.issue)
	if w.ahead && w.ask.Until == nil && w.ask.Reply != nil {
		moved--
	}
	switch {
	case moved > 0:
		c.out.Held = c.now.Sub(w.sent)
	case len(c.queue) > 0:
		c.out.Held = c.now.Sub(c.queue[0].arrived)
	}
}

func unavailable(stream eventlog.Stream, err error) error {
	return fault.New(fault.Unavailable, "append to the event log", string(stream), "%v", err)
}
