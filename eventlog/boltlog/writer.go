package boltlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/queue"
)

// writer is the one goroutine that changes the files. It takes all requests
// that wait and makes them durable together; while that is synced to the
// disk, the next ones gather. So one sync serves one append when the node is
// quiet, and hundreds when it is busy, and no append waits for others to join.
// If all of them are volatile, the sync comes later.
//
// They become durable in the journal. Its records go to the bbolt file when the journal
// is full, or half full while no request waits, or with a checkpoint or a trim.
type writer struct {
	queue   *queue.Queue[*request]
	reader  *Reader // whose files it writes
	journal journal
	clock   eventlog.Clock
	boot    string
	log     *slog.Logger

	next eventlog.Sequence // for the next record
	late *time.Timer       // runs while the journal has something that is not synced
	repair
	degraded atomic.Pointer[eventlog.DegradedError] // why the journal is not used; nil if it is
	// nameless: a compacted file took the log's name, but the disk may not know it yet.
	nameless bool

	pending pending
	ending  bool // the log is being closed

	counters counters
	ended    chan struct{} // closed when the goroutine is over

	commit  func(*bolt.Tx) error
	syncDir func(path string) error
	reached func(compactionStep) error
}

// disk is how things become durable. Tests make it fail.
type disk struct {
	commit  func(*bolt.Tx) error
	write   func(f *os.File, frame []byte, at int64) error
	sync    func(f *os.File) error
	syncDir func(path string) error
	// reached is called when a compaction has reached a step. Before the rename, an error
	// fails it.
	reached func(s compactionStep) error
}

// realDisk is the disk that doesn't fail on purpose.
var realDisk = disk{commit: commit, write: writeFrame, sync: syncFrames, syncDir: syncDir, reached: func(compactionStep) error { return nil }}

// commit commits a transaction of the bbolt file.
func commit(tx *bolt.Tx) error {
	if err := sign(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func newWriter(l *Log, o Options, d disk) *writer {
	w := &writer{
		queue:   l.queue,
		reader:  &l.Reader,
		journal: journal{disk: d},
		clock:   o.Clock,
		boot:    o.BootID,
		log:     o.Logger.With("path", o.Path),
		next:    l.Last() + 1,
		late:    stoppedTimer(),
		ended:   make(chan struct{}),

		repair:  repair{timer: stoppedTimer()},
		pending: pending{tidy: make(map[string]bool)},
		commit:  d.commit,
		syncDir: d.syncDir,
		reached: d.reached,
	}
	if w.syncDir == nil {
		w.syncDir = realDisk.syncDir
	}
	if w.reached == nil {
		w.reached = realDisk.reached
	}
	w.pending.writer = w
	return w
}

// openJournal opens the journal to continue its pass. Without it, appends go to the
// bbolt file, which takes longer.
func (w *writer) openJournal() {
	f, err := openJournal(journalPath(w.reader.store.opener.path), w.journal.disk.sync)
	w.degraded.Store(nil)
	if err != nil {
		w.log.Warn("event log: its journal cannot be used, so appends take longer", "cause", err)
		w.degraded.Store(&eventlog.DegradedError{Cause: fmt.Errorf("its journal cannot be used: %w", err)})
	}
	w.journal.file = f
	w.journal.written, w.journal.synced = w.reader.Last(), w.reader.Last()
}

// run is the goroutine. It ends when the queue was closed and is empty.
func (w *writer) run() {
	defer close(w.ended)
	defer w.timer.Stop()
	defer w.late.Stop()
	if w.journal.file == nil && w.journal.pass != (passID{}) {
		w.empty() // its records cannot be synced there
	}
	w.pending.resumeRemoval()
	for {
		select {
		case <-w.timer.C:
			w.tryRepair()
		case <-w.late.C:
			w.sync()
		case <-w.pending.pieces():
			w.pending.piece()
		case <-w.queue.Ready():
			w.pending.yielded = false
			requests, closed := w.queue.Take(maxBatch, maxBatchBytes)
			w.serve(requests)
			if closed {
				w.pending.endChanges()
				w.end()
				return
			}
			if w.journal.at >= emptyAt && len(w.queue.Ready()) == 0 && w.failure() == nil {
				w.empty()
			}
		}
	}
}

// end leaves a bbolt file that needs no journal, or else a journal that is synced.
func (w *writer) end() {
	if err := w.journal.sync(); err != nil {
		w.log.Warn("event log: sync its journal", "cause", err)
	}
	w.journal.giveUp(w.log)
	w.ending = true
	if w.journal.pass != (passID{}) || len(w.reader.recent.all()) > 0 {
		w.empty()
	}
	w.closeInOrder()
}

// sync syncs the journal's volatile appends to the disk.
func (w *writer) sync() {
	if err := w.journal.sync(); err != nil {
		w.giveUpJournal(err)
		w.empty()
	}
}

func (w *writer) giveUpJournal(cause error) {
	w.log.Warn("event log: its journal is given up, so appends take longer", "cause", cause)
	w.journal.giveUp(w.log)
	w.degraded.Store(&eventlog.DegradedError{Cause: fmt.Errorf("its journal was given up: %w", cause)})
}

// empty moves the journal's records to the bbolt file.
func (w *writer) empty() { w.write(&batch{}) }

func (w *writer) serve(requests []*request) {
	b := &batch{}
	for _, r := range requests {
		if r.take() && !w.pending.lineUp(r) {
			b.requests = append(b.requests, r)
		}
	}
	if failure := w.failure(); failure != nil {
		b.fail(failure)
	} else if len(b.requests) > 0 {
		w.write(b)
	}
	b.answer()
}

// write gives every request of the batch its records or its error. A batch without
// requests empties the journal.
func (w *writer) write(b *batch) {
	for {
		w.stage(b)
		if len(b.requests) > 0 && b.empty() {
			return // all were refused
		}
		if w.toJournal(b) {
			return
		}
		culprit, err := w.toFile(b)
		if err == nil {
			return
		}
		// One request met damage. The transaction was half done and could not
		// be kept; the other requests are tried again without it.
		culprit.records, culprit.err = nil, err
	}
}

// stage numbers the records of all requests that have no error yet.
func (w *writer) stage(b *batch) {
	*b = batch{requests: b.requests, next: w.next, heads: make(map[eventlog.Stream]eventlog.Version)}
	for _, r := range b.requests {
		switch {
		case r.err != nil:
		case r.change != nil:
			b.stageChange(r)
		default:
			head, err := w.head(b, r.append.Stream)
			if err != nil {
				r.err = err
				continue
			}
			b.stage(r, head, w.stamp())
		}
	}
}

// head is the version of a stream, including what the batch has appended so far.
func (w *writer) head(b *batch, s eventlog.Stream) (head eventlog.Version, err error) {
	if head, known := b.heads[s]; known {
		return head, nil
	}
	if head = w.reader.recent.head(s); head > 0 {
		return head, nil
	}
	err = w.reader.store.view(context.Background(), false, func(tx *bolt.Tx) error {
		if under, err := removingOf(tx); err == nil && under.drops(s) {
			return fmt.Errorf("%w: stream %q is being trimmed", eventlog.ErrUnavailable, s)
		}
		info, err := streamInfo(tx, s)
		head = info.Version
		return err
	})
	return head, err
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

// toJournal writes the batch to the journal, if it fits and has nothing but appends.
func (w *writer) toJournal(b *batch) bool {
	if len(b.values) == 0 || len(b.changes) > 0 {
		return false
	}
	began, behind := time.Now(), w.journal.behind()
	done, err := w.journal.put(b)
	if err != nil {
		w.giveUpJournal(err)
		b.doubt = err
	}
	if !done {
		return false
	}
	w.committing(began)
	switch {
	case b.lasting:
		w.late.Stop()
	case !behind:
		w.late.Reset(eventlog.VolatileFor)
	}
	w.reader.recent.add(b.records)
	w.committed(b)
	return true
}

// toFile writes the journal's records and the batch to the bbolt file, and begins a new
// pass of the journal. An error belongs to one request, the culprit; the others are to be
// tried again.
func (w *writer) toFile(b *batch) (culprit *request, err error) {
	tx, err := w.begin()
	if err != nil {
		w.refuse(b, fmt.Errorf("begin: %w", err))
		return nil, nil
	}
	var pass passID
	if w.journal.file != nil {
		pass = newPass()
	}
	if err := guard(func() error { return w.carry(tx, pass) }); err != nil {
		w.rollback(tx)
		w.refuse(b, fmt.Errorf("write what the journal has: %w", err))
		return nil, nil
	}
	if culprit, err := b.into(tx); err != nil {
		w.rollback(tx)
		if b.doubt != nil {
			w.refuse(b, err)
			return nil, nil
		}
		return culprit, err
	}
	began := time.Now()
	err = w.commitTx(tx)
	if err == nil && pass != (passID{}) {
		// Both meta pages must know the pass: if the newer one is lost, the file would
		// depend on frames that are now overwritten in the journal.
		if err = w.changeMeta(nothing); err != nil {
			w.suspect = true // the batch is in the file all the same
		}
	}
	w.committing(began)
	if err != nil {
		w.rollback(tx)
		w.settle(b, err)
		return nil, nil
	}
	w.journal.begin(pass, b.next-1)
	w.reader.recent.clear()
	w.committed(b)
	return nil, nil
}

// refuse fails a batch that is not in the bbolt file.
func (w *writer) refuse(b *batch, cause error) {
	w.suspect = w.suspect || errors.Is(cause, eventlog.ErrCorrupt)
	if b.doubt != nil {
		w.settle(b, errors.Join(b.doubt, cause))
		return
	}
	b.fail(w.fail(cause))
}

// carry puts the journal's records and its next pass into a transaction.
func (w *writer) carry(tx *bolt.Tx, pass passID) error {
	var more usage
	for _, r := range w.reader.recent.all() {
		value := appendRecord(make([]byte, 0, recordOverhead(&r)+len(r.Payload)), &r)
		if err := putRecord(tx, &r, value); err != nil {
			return err
		}
		more.bytes += int64(len(value))
	}
	if err := addUsage(tx, more); err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	if pass == (passID{}) {
		return meta.Delete(keyJournal)
	}
	return meta.Put(keyJournal, pass.value())
}

// fewFree is how many free pages are listed in the file at most while the log is open.
const fewFree = 4096

// begin begins a transaction. It will write the list of free pages, too, if that is short, and in
// any case while the log is being closed: bbolt then need not look for them at the next start.
func (w *writer) begin() (*bolt.Tx, error) {
	h := w.reader.store.current()
	if h == nil {
		return nil, errors.New("the file is not open")
	}
	h.db.NoFreelistSync = !w.ending && h.db.Stats().FreePageN > fewFree
	return w.reader.store.begin(h, true)
}

// commitTx commits a transaction. If bbolt panics, its state is unknown.
func (w *writer) commitTx(tx *bolt.Tx) error {
	h, id := w.reader.store.current(), uint64(tx.ID())
	err := guard(func() error { return w.commit(tx) })
	switch {
	case errors.Is(err, eventlog.ErrCorrupt):
		w.suspect = true
	case err == nil && h != nil:
		h.txid = id
	}
	return err
}

// committing counts a group commit that began at a time.
func (w *writer) committing(since time.Time) {
	w.counters.commits.Add(1)
	w.counters.committing.Add(int64(time.Since(since)))
}

// committed publishes the batch's records. This comes before the answers, so that
// a caller that has its answer finds the records.
func (w *writer) committed(b *batch) {
	w.counters.records.Add(uint64(b.next - w.next))
	for _, r := range b.requests {
		if r.change == nil && r.err == nil {
			w.counters.appends.Add(1)
			w.counters.waiting.Add(int64(time.Since(r.arrived)))
		}
	}
	w.next = b.next
	w.reader.tail.Advance(b.next - 1)
}

// rollback ends a transaction that was not committed. It does nothing if bbolt
// has already ended it.
func (w *writer) rollback(tx *bolt.Tx) {
	err := guard(tx.Rollback)
	if err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
		w.log.Error("event log: a transaction could not be ended", "cause", err)
		w.reader.store.abandon(w.reader.store.current())
	}
}
