package boltlog

import (
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// change is what a request can ask for instead of an append. A small one is part of an
// ordinary commit; any other is made in pieces between commits.
type change interface {
	size() int                                             // bytes in memory
	check(last eventlog.Sequence) error                    // whether the log, with this last record, allows it
	inPieces(p *pending) bool                              // whether it must be made in pieces
	due() <-chan struct{}                                  // ready when the next piece can be made
	advance(p *pending, r *request) (more bool, err error) // makes the next piece
	counts() bool                                          // it was made, so later errors do not fail it
	ended(p *pending, err error)
}

// committed is a change that a commit makes visible. Its other pieces are transactions, too.
type committed interface {
	change
	step() func(tx *bolt.Tx) (done bool, err error) // the next piece; nil: the commit
	next() (more bool)                              // moves on when a step is done
	into(tx *bolt.Tx) error                         // makes it visible
	proof() put                                     // what into has put into the file
}

// A piece is the most that one transaction changes, so that an append waits no longer than
// for another commit. A single value can be larger.
const (
	pieceEntries = 256
	pieceBytes   = 256 << 10
)

// phase is the progress of a change that is made in pieces.
type phase int

const (
	sweeping   phase = iota // what an earlier one has left
	filling                 // an area of a checkpoint; only large ones
	committing              // the change
	tidying                 // what the change has left
	tidy
)

// pending are the changes that are made in pieces, one after the other.
type pending struct {
	writer  *writer
	waiting []*request
	tidy    map[string]bool // checkpoints that need no merging and no sweeping
	yielded bool            // the last thing that the writer did was a piece
}

// lineUp queues a change that must be made in pieces. One that will be refused is not queued.
func (p *pending) lineUp(r *request) bool {
	if r.change == nil || r.change.check(p.writer.next-1) != nil || !r.change.inPieces(p) {
		return false
	}
	p.waiting = append(p.waiting, r)
	return true
}

// always is a channel from which one can always receive.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// pieces returns a channel that is ready when a piece may be done: never twice in a row
// while requests wait.
func (p *pending) pieces() <-chan struct{} {
	if len(p.waiting) == 0 || p.yielded && len(p.writer.queue.Ready()) > 0 {
		return nil
	}
	return p.waiting[0].change.due()
}

// piece does the next piece of the oldest change.
func (p *pending) piece() {
	p.yielded = true
	r := p.waiting[0]
	more, err := true, p.writer.failure()
	if err == nil {
		more, err = r.change.advance(p, r)
	}
	if err != nil || !more {
		p.endChange(r, err)
	}
}

// advance makes the next piece of a change.
func (p *pending) advance(c committed, r *request) (more bool, err error) {
	if step := c.step(); step != nil {
		if done, err := p.inTx(step); err != nil || !done {
			return true, err
		}
	} else if p.writer.write(&batch{requests: []*request{r}}); r.err != nil {
		return false, r.err
	}
	return c.next(), nil
}

// inTx calls fn in a transaction of its own. When fn reports done it has changed nothing, and
// the transaction is rolled back.
func (p *pending) inTx(fn func(tx *bolt.Tx) (done bool, err error)) (done bool, err error) {
	w := p.writer
	tx, err := w.begin()
	if err != nil {
		return false, w.fail(fmt.Errorf("begin: %w", err))
	}
	err = guard(func() (err error) {
		done, err = fn(tx)
		return err
	})
	if err != nil || done {
		w.rollback(tx)
		return done, err
	}
	if err := w.commitTx(tx); err != nil {
		w.rollback(tx)
		w.settle(&batch{}, err)
		return false, fmt.Errorf("%w: commit: %w", eventlog.ErrUnavailable, err)
	}
	return false, nil
}

// endChange removes a change from the queue and answers its request.
func (p *pending) endChange(r *request, err error) {
	p.waiting = slices.DeleteFunc(p.waiting, func(other *request) bool { return other == r })
	r.change.ended(p, err)
	if r.change.counts() {
		if err != nil {
			p.writer.log.Warn("event log: leftovers of a change are removed later", "cause", err)
		}
		err = nil
	}
	r.done(nil, err)
}

// endChanges ends all changes: the log is being closed.
func (p *pending) endChanges() {
	for _, r := range slices.Clone(p.waiting) {
		p.endChange(r, eventlog.ErrClosed)
	}
}

// change asks for a change and waits for its end.
func (l *Log) change(ctx context.Context, c change) error {
	_, err := l.ask(ctx, &request{change: c})
	return err
}
