package boltlog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/queue"
	"github.com/stele-runtime/stele/eventlog/internal/tail"
)

// writer is the one goroutine that changes the file. It takes all requests
// that wait and commits them in one transaction; while that is synced to the
// disk, the next ones gather. So one sync serves one append when the node is
// quiet, and hundreds when it is not, and nothing ever waits for company.
type writer struct {
	queue *queue.Queue[*request]
	store *store
	tail  *tail.Tail
	clock eventlog.Clock
	boot  string
	log   *slog.Logger

	next eventlog.Sequence // for the next record
	repair

	counters counters
	ended    chan struct{} // closed when the goroutine is over

	commit func(*bolt.Tx) error // commitOnce, except in tests
}

func newWriter(l *Log, o Options, commit func(*bolt.Tx) error) *writer {
	return &writer{
		queue: l.queue,
		store: l.store,
		tail:  &l.tail,
		clock: o.Clock,
		boot:  o.BootID,
		log:   o.Logger.With("path", o.Path),
		next:  l.tail.Last() + 1,
		ended: make(chan struct{}),

		repair: repair{timer: stoppedTimer()},
		commit: commit,
	}
}

// run is the goroutine. It ends when the queue was closed and is empty.
func (w *writer) run() {
	defer close(w.ended)
	defer w.timer.Stop()
	for {
		select {
		case <-w.timer.C:
			w.tryRepair()
		case <-w.queue.Ready():
			requests, closed := w.queue.Take(maxBatch, maxBatchBytes)
			w.serve(requests)
			if closed {
				return
			}
		}
	}
}

func (w *writer) serve(requests []*request) {
	b := &batch{heads: make(map[eventlog.Stream]eventlog.Version)}
	for _, r := range requests {
		if r.take() {
			b.requests = append(b.requests, r)
		}
	}
	if failure := w.failure(); failure != nil {
		b.fail(failure)
	} else {
		w.write(b)
	}
	b.answer()
}

// write gives every request of the batch its records or its error.
func (w *writer) write(b *batch) {
	for {
		tx, err := w.begin()
		if err != nil {
			b.fail(w.fail(fmt.Errorf("begin: %w", err)))
			return
		}
		culprit, err := w.stage(tx, b)
		switch {
		case err != nil:
			// One request met damage. The transaction is half done, so it
			// cannot be kept, but the other requests are not to suffer.
			culprit.records, culprit.err = nil, err
			w.rollback(tx)
		case b.proof == nil:
			w.rollback(tx) // all were refused
			return
		default:
			w.finish(tx, b)
			return
		}
	}
}

func (w *writer) begin() (*bolt.Tx, error) {
	h := w.store.current()
	if h == nil {
		return nil, errors.New("the file is not open")
	}
	return w.store.begin(h, true)
}

// stage puts all requests that have no error yet into the transaction.
func (w *writer) stage(tx *bolt.Tx, b *batch) (culprit *request, err error) {
	clear(b.heads)
	b.next, b.proof = w.next, nil
	for _, r := range b.requests {
		if r.err != nil {
			continue
		}
		if err := guard(func() error { return b.stage(tx, r, w.stamp()) }); err != nil {
			return r, err
		}
	}
	return nil, nil
}

// stamp is what the writer adds to the entries of one append.
type stamp struct {
	wall      time.Time
	sinceBoot time.Duration
	bootID    string
}

func (w *writer) stamp() stamp {
	return stamp{
		wall:      time.Unix(0, w.clock.Now().UnixNano()).UTC(), // as it will be read
		sinceBoot: max(w.clock.SinceBoot(), 0),
		bootID:    w.boot,
	}
}

// finish commits the transaction, and finds out what happened if that fails.
func (w *writer) finish(tx *bolt.Tx, b *batch) {
	began := time.Now()
	err := guard(func() error { return w.commit(tx) })
	w.counters.commits.Add(1)
	w.counters.committing.Add(int64(time.Since(began)))
	if err != nil {
		w.rollback(tx)
		w.settle(b, err)
		return
	}
	w.committed(b)
}

// committed makes the batch's records known. This comes before the answers,
// so that who has an answer finds the records, too.
func (w *writer) committed(b *batch) {
	w.counters.records.Add(uint64(b.next - w.next))
	for _, r := range b.requests {
		if r.snapshot == nil && r.err == nil {
			w.counters.appends.Add(1)
			w.counters.waiting.Add(int64(time.Since(r.arrived)))
		}
	}
	w.next = b.next
	w.tail.Advance(b.next - 1)
}

// rollback ends a transaction that was not committed. It does nothing for one
// that bbolt has already ended.
func (w *writer) rollback(tx *bolt.Tx) {
	err := guard(tx.Rollback)
	if err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
		w.log.Error("event log: a transaction could not be ended", "cause", err)
		w.store.abandon(w.store.current())
	}
}
