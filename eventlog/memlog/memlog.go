package memlog

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/queue"
	"github.com/stele-runtime/stele/eventlog/internal/tail"
)

// Options say what the log writes into its records.
type Options struct {
	BootID string         // default: "memory"
	Clock  eventlog.Clock // default: eventlog.SystemClock
}

// Log is an event log in memory. Make it with New.
type Log struct {
	options Options
	tail    tail.Tail
	jobs    *queue.Queue[func()] // for the writer's goroutine
	ended   chan struct{}        // closed when that goroutine is over
	close   func()               // once

	mu    sync.Mutex
	state state
	fail  error // set by Fail
}

var _ eventlog.Log = (*Log)(nil)

// state is what would be on a disk.
type state struct {
	records     []eventlog.Record                       // records[i] has the sequence i+1, or 0 if it was removed
	streams     map[eventlog.Stream][]eventlog.Sequence // behind the base, without what was thinned
	bases       map[eventlog.Stream]eventlog.Base
	removed     map[eventlog.Sequence]removed
	thinned     map[eventlog.Stream]map[eventlog.Version]removed // behind the base
	checkpoints map[string]checkpoint
	// volatile has, for each volatile append since the last other one, the number of
	// records before it.
	volatile []int
}

// checkpoint is never changed, only replaced.
type checkpoint struct {
	eventlog.Checkpoint
	pairs map[string][]byte
}

// New returns an empty log.
func New(o Options) *Log {
	return start(o, state{
		streams:     make(map[eventlog.Stream][]eventlog.Sequence),
		bases:       make(map[eventlog.Stream]eventlog.Base),
		removed:     make(map[eventlog.Sequence]removed),
		thinned:     make(map[eventlog.Stream]map[eventlog.Version]removed),
		checkpoints: make(map[string]checkpoint),
	})
}

// Reopen closes a log and returns a new one that has the same records and
// checkpoints, as a daemon finds them after a restart.
func Reopen(l *Log, o Options) *Log {
	_ = l.Close() // it cannot fail
	l.mu.Lock()
	defer l.mu.Unlock()
	return start(o, l.state)
}

// Volatile returns how many appends a power failure could lose.
func (l *Log) Volatile() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.state.volatile)
}

// PowerFailure is Reopen after a power failure that lost the given number of volatile
// appends.
func PowerFailure(l *Log, o Options, lost int) *Log {
	_ = l.Close() // it cannot fail
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	if kept := len(s.volatile) - lost; lost > 0 {
		s.records = slices.Clone(s.records[:s.volatile[kept]])
	}
	s.volatile = nil
	s.streams = make(map[eventlog.Stream][]eventlog.Sequence)
	for _, r := range s.records {
		if r.Sequence > 0 {
			s.streams[r.Stream] = append(s.streams[r.Stream], r.Sequence)
		}
	}
	return start(o, s)
}

func start(o Options, s state) *Log {
	if o.BootID == "" {
		o.BootID = "memory"
	}
	if o.Clock == nil {
		o.Clock = eventlog.SystemClock{}
	}
	const noLimit = int(^uint(0) >> 1)
	l := &Log{options: o, state: s, jobs: queue.New[func()](noLimit), ended: make(chan struct{})}
	l.tail.Advance(eventlog.Sequence(len(s.records)))
	l.close = sync.OnceFunc(l.shutDown)
	go l.run()
	return l
}

// run is the writer's goroutine.
func (l *Log) run() {
	defer close(l.ended)
	for range l.jobs.Ready() {
		const all = int(^uint(0) >> 1)
		jobs, closed := l.jobs.Take(all, all)
		for _, job := range jobs {
			job()
		}
		if closed {
			return
		}
	}
}

// Close implements eventlog.Reader.
func (l *Log) Close() error {
	l.close()
	return nil
}

func (l *Log) shutDown() {
	l.jobs.Close()
	<-l.ended
	l.tail.End(eventlog.ErrClosed)
}

// Fail makes the log refuse appends and checkpoints as if the disk had failed
// with this cause, until it is called with nil.
func (l *Log) Fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = nil
	if cause != nil {
		l.fail = fmt.Errorf("%w: %w", eventlog.ErrUnavailable, cause)
	}
}

// Health implements eventlog.Log.
func (l *Log) Health() error {
	if err := l.tail.Ended(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fail
}

// Append implements eventlog.Log.
func (l *Log) Append(ctx context.Context, a eventlog.Append) (records []eventlog.Record, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answered := make(chan struct{})
	l.AppendAsync(a, func(r []eventlog.Record, e error) {
		records, err = r, e
		close(answered)
	})
	<-answered // memory doesn't keep anyone waiting, so the context needs no look
	return records, err
}

// AppendAsync implements eventlog.Log.
func (l *Log) AppendAsync(a eventlog.Append, done func([]eventlog.Record, error)) {
	if l.jobs.Put(func() { done(l.append(a)) }, 0) != nil {
		done(nil, eventlog.ErrClosed)
	}
}

func (l *Log) append(a eventlog.Append) ([]eventlog.Record, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	stream, version := l.state.streams[a.Stream], l.state.info(a.Stream).Version
	if version != a.Expected {
		return nil, &eventlog.WrongVersionError{Stream: a.Stream, Expected: a.Expected, Actual: version}
	}
	wall := time.Unix(0, l.options.Clock.Now().UnixNano()).UTC()
	sinceBoot := max(l.options.Clock.SinceBoot(), 0)
	first := len(l.state.records)
	if a.Volatile {
		l.state.volatile = append(l.state.volatile, first)
	} else {
		l.state.volatile = nil
	}
	for _, entry := range a.Entries {
		entry.Payload = copyOf(entry.Payload)
		sequence := eventlog.Sequence(len(l.state.records) + 1)
		stream, version = append(stream, sequence), version+1
		l.state.records = append(l.state.records, eventlog.Record{
			Sequence: sequence, Stream: a.Stream, Version: version,
			Time: wall, SinceBoot: sinceBoot, BootID: l.options.BootID,
			Entry: entry,
		})
	}
	l.state.streams[a.Stream] = stream
	l.tail.Advance(eventlog.Sequence(len(l.state.records)))
	return slices.Clone(l.state.records[first:]), nil
}

// Last implements eventlog.Reader.
func (l *Log) Last() eventlog.Sequence { return l.tail.Last() }

// alive returns why an iteration must end, or nil.
func (l *Log) alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.tail.Ended()
}

// Read implements eventlog.Reader.
func (l *Log) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		for next, last := max(from, 1), l.Last(); next <= last; next++ {
			if err := l.alive(ctx); err != nil {
				yield(eventlog.Record{}, err)
				return
			}
			if !l.pass(&next, yield) {
				return
			}
		}
	}
}

// pass yields a record, or the run of removed ones that it belongs to, and moves on to the
// run's end.
func (l *Log) pass(s *eventlog.Sequence, yield func(eventlog.Record, error) bool) bool {
	l.mu.Lock()
	r := l.state.records[*s-1]
	var gap *eventlog.GapError
	if r.Sequence == 0 {
		gap = l.state.gap(*s)
		*s = gap.Last
	}
	l.mu.Unlock()
	if gap != nil {
		return yield(eventlog.Record{}, gap)
	}
	return yield(r, nil)
}

// ReadStream implements eventlog.Reader.
func (l *Log) ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		if err := l.alive(ctx); err != nil {
			yield(eventlog.Record{}, err)
			return
		}
		l.mu.Lock()
		items := l.state.stream(s, from)
		l.mu.Unlock()
		for _, item := range items {
			if err := l.alive(ctx); err != nil {
				yield(eventlog.Record{}, err)
				return
			}
			if item.gap != nil && !yield(eventlog.Record{}, item.gap) || item.gap == nil && !yield(item.record, nil) {
				return
			}
		}
	}
}

// Subscribe implements eventlog.Log.
func (l *Log) Subscribe(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		for next := max(from, 1); ; next++ {
			if err := l.tail.Wait(ctx, next-1); err != nil {
				yield(eventlog.Record{}, err)
				return
			}
			if err := ctx.Err(); err != nil {
				yield(eventlog.Record{}, err)
				return
			}
			if !l.pass(&next, yield) {
				return
			}
		}
	}
}

// SaveCheckpoint implements eventlog.Log.
func (l *Log) SaveCheckpoint(ctx context.Context, name string, d eventlog.Delta) error {
	if err := l.alive(ctx); err != nil {
		return err
	}
	if err := d.Check(name); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.state.checkpoints[name]
	switch last := eventlog.Sequence(len(l.state.records)); {
	case l.fail != nil:
		return l.fail
	case d.Sequence > last:
		return fmt.Errorf("%w: checkpoint %q is of record %d, but the last one is %d", eventlog.ErrInvalid, name, d.Sequence, last)
	case !d.Replace && before.Sequence != d.After:
		return fmt.Errorf("%w: checkpoint %q is of record %d, not of %d", eventlog.ErrStale, name, before.Sequence, d.After)
	}
	after := checkpoint{d.Checkpoint, make(map[string][]byte)}
	if !d.Replace {
		maps.Copy(after.pairs, before.pairs)
	}
	for key, value := range d.Put {
		after.pairs[key] = copyOf(value)
	}
	for _, key := range d.Delete {
		delete(after.pairs, key)
	}
	l.state.checkpoints[name], l.state.volatile = after, nil
	return nil
}

// LoadCheckpoint implements eventlog.Reader.
func (l *Log) LoadCheckpoint(ctx context.Context, name string) (eventlog.Saved, bool, error) {
	if err := l.alive(ctx); err != nil {
		return eventlog.Saved{}, false, err
	}
	if err := eventlog.CheckCheckpointName(name); err != nil {
		return eventlog.Saved{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c, found := l.state.checkpoints[name]
	if !found {
		return eventlog.Saved{}, false, nil
	}
	return eventlog.Saved{Checkpoint: c.Checkpoint, Pairs: func(yield func(eventlog.Pair, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(c.pairs)) {
			if err := l.alive(ctx); err != nil {
				yield(eventlog.Pair{}, err)
				return
			}
			if !yield(eventlog.Pair{Key: key, Value: copyOf(c.pairs[key])}, nil) {
				return
			}
		}
	}}, true, nil
}

// copyOf returns a copy that is not nil, as after a read from a disk.
func copyOf(b []byte) []byte { return append([]byte{}, b...) }

// Verify implements eventlog.Reader. Memory isn't damaged.
func (l *Log) Verify(ctx context.Context) (eventlog.Report, error) {
	if err := l.alive(ctx); err != nil {
		return eventlog.Report{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := eventlog.Report{
		Streams:     uint64(len(l.state.names(""))),
		Checkpoints: uint64(len(l.state.checkpoints)),
	}
	for _, record := range l.state.records {
		if record.Sequence == 0 {
			continue
		}
		if r.First == 0 {
			r.First = record.Sequence
		}
		r.Records, r.Last = r.Records+1, record.Sequence
	}
	r.Removed = l.state.rules()
	return r, nil
}
