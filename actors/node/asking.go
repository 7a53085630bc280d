package node

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/trace"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// Caller waits for an answer.
type Caller[S, E any] struct {
	// Until is when to answer; nil means as soon as the command is durable.
	Until entity.Answer[S, E]
	// Reply receives the answer, at most once. It must not block. It may be nil.
	Reply func(entity.Reply[S])
	// Gone is closed when the caller no longer waits; it may be nil.
	Gone <-chan struct{}
	// Trace is the trace id of the request, in hexadecimal; empty if it has none.
	Trace string
	// accepted: see entity.Ask.
	accepted func()
}

// send brings a command to its entity, as d says.
func send[S, C, E any, F entity.Effect[C]](c *Core, _ *entity.Machine[S, C, E, F], command C, from Caller[S, E], d deliver) {
	reply := from.Reply
	if reply == nil {
		reply = func(entity.Reply[S]) {}
	}
	if d.joins {
		answer := reply
		reply = func(r entity.Reply[S]) {
			if r.Sequence == 0 && fault.KindOf(r.Err) == fault.NotFound {
				r.Err = notBegun(d.stream)
			}
			answer(r)
		}
	}
	d.message = &entity.Ask[S, C, E]{
		Command: command, Joins: d.joins, Until: from.Until, Gone: from.Gone, Reply: reply, Accepted: from.accepted, Trace: from.Trace,
	}
	d.refuse = func(err error) { reply(entity.Reply[S]{Err: err}) }
	c.post(&d)
}

// notBegun is the error of a call that found nothing to join: the other call has not got
// that far, or has just failed.
func notBegun(stream eventlog.Stream) error {
	return fault.New(fault.Unavailable, joinsTheCall, string(stream), "it has not begun, or has just failed; ask again")
}

const joinsTheCall = "join the call that has the name"

// hasNotBegun reports whether a call found nothing to join: the name has become free.
func hasNotBegun(err error) bool {
	f, is := errors.AsType[*fault.Fault](err)
	return is && f.Op == joinsTheCall
}

// waits reports whether the caller is still there.
func (c Caller[S, E]) waits() bool {
	select {
	case <-c.Gone:
		return false
	default:
		return true
	}
}

// traceOf is the trace id of a request, empty if it has none.
func traceOf(ctx context.Context) string {
	if of := trace.SpanContextFromContext(ctx); of.HasTraceID() {
		return of.TraceID().String()
	}
	return ""
}

var errStopping = fault.New(fault.Unavailable, "reach the node's actors", "", "the daemon is stopping")

// await makes a call and waits for its answer, on a channel of its own: a future of the
// actor library would lose the answer of a failed actor. It returns once the projections
// include the answer's state, too.
func await[S, E any](ctx context.Context, n *Node, until entity.Answer[S, E], call func(Caller[S, E])) (S, error) {
	answer := make(chan entity.Reply[S], 1)
	call(Caller[S, E]{Until: until, Gone: ctx.Done(), Trace: traceOf(ctx), Reply: func(r entity.Reply[S]) { answer <- r }})
	var none S
	select {
	case r := <-answer:
		if r.Err != nil {
			return r.State, r.Err
		}
		return r.State, n.await(ctx, r.Sequence)
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-n.context.Done():
		return none, errStopping
	}
}
