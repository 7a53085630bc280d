package boltlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/queue"
)

// Options say which log to open, and how.
type Options struct {
	Path string // of the file; its directory is made (0700) if it is missing

	BootID   string         // of the present boot; default: the kernel's
	Clock    eventlog.Clock // default: eventlog.SystemClock
	Logger   *slog.Logger   // default: no logging
	LockWait time.Duration  // how long to wait while another process has the log; default 5 s
}

const defaultLockWait = 5 * time.Second

// Limits of what waits for the writer, and of one commit.
const (
	maxWaitingBytes = 128 << 20
	maxBatch        = 1024
	maxBatchBytes   = 16 << 20
)

// Log is an event log in a bbolt file with a journal. Make it with Open.
type Log struct {
	Reader

	queue  *queue.Queue[*request]
	writer *writer
	close  func() error // once
}

var _ eventlog.Log = (*Log)(nil)

// Open opens the log for appending, and creates it if there is none.
//
// It fails with ErrLocked if another process has it, and with ErrCorrupt,
// saying what is damaged, if the file is not a log or its structure is
// damaged. It leaves such a file unchanged. Damage inside of records does not
// stop it.
func Open(o Options) (*Log, error) { return openWith(o, realDisk) }

// openWith is Open with a disk that a test can make fail.
func openWith(o Options, d disk) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	opener := opener{path: o.Path, lockWait: o.LockWait, log: o.Logger}
	if err := opener.create(); err != nil {
		return nil, err
	}
	l := &Log{queue: queue.New[*request](maxWaitingBytes)}
	f, err := l.Reader.open(opener)
	if err != nil {
		return nil, err
	}
	if err := removeCopy(o.Path); err != nil {
		o.Logger.Warn("event log: what an interrupted compaction left stays", "path", o.Path, "cause", err)
	}
	l.writer = newWriter(l, o, d)
	l.writer.journal.pass, l.writer.journal.at = f.pass, f.next
	l.writer.openJournal()
	l.close = sync.OnceValue(l.shutDown)
	go l.writer.run()
	return l, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Path == "" {
		return o, fmt.Errorf("%w: no path", eventlog.ErrInvalid)
	}
	if o.BootID == "" {
		id, err := eventlog.SystemBootID()
		if err != nil {
			return o, err
		}
		o.BootID = id
	}
	if len(o.BootID) > eventlog.MaxName {
		return o, fmt.Errorf("%w: the boot id has %d bytes", eventlog.ErrInvalid, len(o.BootID))
	}
	if o.Clock == nil {
		o.Clock = eventlog.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LockWait == 0 {
		o.LockWait = defaultLockWait
	}
	return o, nil
}

// Close implements eventlog.Reader. Earlier calls of AppendAsync are written first.
func (l *Log) Close() error { return l.close() }

func (l *Log) shutDown() error {
	l.queue.Close()
	<-l.writer.ended
	return l.Reader.Close()
}

// Subscribe implements eventlog.Log. Live records are read from the file, too:
// its newest pages are in the page cache, so a slow subscriber costs the writer
// nothing and needs no buffer.
func (l *Log) Subscribe(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) { l.subscribe(ctx, from, yield) }
}

// Health implements eventlog.Log.
func (l *Log) Health() error {
	if err := l.tail.Ended(); err != nil {
		return err
	}
	if failure := l.writer.health.Load(); failure != nil {
		return *failure
	}
	if degraded := l.writer.degraded.Load(); degraded != nil {
		return degraded
	}
	return nil
}

// Append implements eventlog.Log.
func (l *Log) Append(ctx context.Context, a eventlog.Append) ([]eventlog.Record, error) {
	return l.ask(ctx, &request{append: a, arrived: time.Now()})
}

// AppendAsync implements eventlog.Log.
func (l *Log) AppendAsync(a eventlog.Append, done func([]eventlog.Record, error)) {
	l.submit(&request{append: a, arrived: time.Now(), done: done})
}

// ask submits a request and waits for its answer.
func (l *Log) ask(ctx context.Context, r *request) ([]eventlog.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type answer struct {
		records []eventlog.Record
		err     error
	}
	answered := make(chan answer, 1)
	r.done = func(records []eventlog.Record, err error) { answered <- answer{records, err} }
	l.submit(r)
	select {
	case a := <-answered:
		return a.records, a.err
	case <-ctx.Done():
		if r.withdraw() {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w while it was being written", eventlog.ErrOutcomeUnknown, ctx.Err())
	}
}

// submit queues a request for the writer. A refused one goes the same way, so that
// all answers come in order and from the same goroutine.
func (l *Log) submit(r *request) {
	r.err = r.check()
	size := r.size()
	if r.err != nil {
		size = 0
	}
	err := l.queue.Put(r, size)
	if errors.Is(err, queue.ErrFull) {
		r.err = fmt.Errorf("%w: more than %d bytes wait to be written", eventlog.ErrUnavailable, maxWaitingBytes)
		err = l.queue.Put(r, 0)
	}
	if err != nil {
		r.done(nil, eventlog.ErrClosed)
	}
}

// Stats counts what the writer did since Open.
type Stats struct {
	Records    uint64        // records that became durable
	Appends    uint64        // requests that carried them
	Commits    uint64        // groups in which these were made durable; each costs an fdatasync, unless all of it is volatile
	CommitTime time.Duration // time spent in making them durable, without late syncs of volatile ones
	WaitTime   time.Duration // from the appends' arrival to their answers, in total
}

// Stats returns the counters, for metrics and benchmarks.
func (l *Log) Stats() Stats {
	c := &l.writer.counters
	return Stats{
		Records:    c.records.Load(),
		Appends:    c.appends.Load(),
		Commits:    c.commits.Load(),
		CommitTime: time.Duration(c.committing.Load()),
		WaitTime:   time.Duration(c.waiting.Load()),
	}
}

type counters struct {
	records, appends, commits atomic.Uint64
	committing, waiting       atomic.Int64 // nanoseconds
}
