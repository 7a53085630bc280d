package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// Feed keeps the models up to date with the log.
type Feed struct {
	Live    *Live
	History *History
	// Changes and PodEvents are published by Run.
	Changes   *Changes
	PodEvents *PodEvents

	folds  folds
	log    eventlog.Reader
	tail   eventlog.Log // the same, to follow
	logger *slog.Logger
	// draft is what the next checkpoint has to change. drafted is the record of the
	// last draft that the saver took.
	draft   *draft
	drafted eventlog.Sequence
	saver   *saver
	// forgotten is what Forget left to do.
	forgotten forgotten

	// turn is held while a record is taken, or the models are packed: only one of them may
	// change the models. packed is the last record of a model that was packed; ended, no draft
	// can be saved any more.
	turn   sync.Mutex
	packed eventlog.Sequence
	ended  bool
}

// Options are what a feed is opened with.
type Options struct {
	Logger *slog.Logger
	// Bookmark may be nil: then what happened before this daemon's start is not in
	// PodEvents.
	Bookmark Bookmark
}

func newFeed(log eventlog.Log, o Options) *Feed {
	if o.Bookmark == nil {
		o.Bookmark = noBookmark{}
	}
	f := &Feed{
		Live: newLive(o.Logger), History: &History{}, Changes: newChanges(), PodEvents: newPodEvents(o.Bookmark, o.Logger, time.Now),
		folds: newFolds(), log: log, tail: log, logger: o.Logger,
		draft: newDraft(), saver: newSaver(log, o.Logger),
	}
	f.Live.removed = f.removed
	return f
}

// Open loads the newest checkpoint and reads the log behind it, bases first. The models are complete
// when it returns.
func Open(ctx context.Context, log eventlog.Log, o Options) (*Feed, error) {
	f := newFeed(log, o)
	found, err := f.load(ctx)
	if err != nil {
		// A checkpoint saves time and nothing else.
		o.Logger.Warn("checkpoint not used, reading the whole log", "error", err)
		f = newFeed(log, o)
	}
	f.drafted, f.saver.saved = f.Live.Sequence(), f.Live.Sequence()
	f.saver.begin.Store(!found)
	lost, err := f.takeBases(ctx)
	if err != nil {
		return nil, err
	}
	f.PodEvents.resume(f.Live.Sequence())
	last := log.Last()
	if err := f.catchUp(ctx, found, last); err != nil {
		return nil, fmt.Errorf("read the log after %d: %w", f.Live.Sequence(), err)
	}
	f.putAside(lost)
	f.Live.reached(max(f.Live.Sequence(), last)) // the last record may have been trimmed
	if found {
		if err := f.dropGone(ctx); err != nil {
			return nil, err
		}
	}
	f.Changes.begin(f.Live.Sequence())
	f.PodEvents.begin(f.Live.Sequence())
	return f, nil
}

// catchUp reads the log behind a checkpoint, or, without one, what lives in it.
func (f *Feed) catchUp(ctx context.Context, found bool, last eventlog.Sequence) error {
	if found {
		return f.takeAll(f.log.Read(ctx, f.Live.Sequence()+1))
	}
	s := survey{log: f.log, live: f.Live, last: last, since: f.PodEvents.from(last)}
	err := s.run(ctx)
	if errors.Is(err, eventlog.ErrCorrupt) || errors.Is(err, errUncertain) {
		f.logger.Warn("what lives cannot be told from the log's index, reading the whole log", "error", err)
		return f.takeAll(f.log.Read(ctx, 1))
	}
	if err != nil {
		return err
	}
	if err := f.takeAll(f.log.ReadAt(ctx, s.sequences)); err != nil {
		return err
	}
	f.History.merge(s.ended)
	return nil
}

// takeAll applies records to the models.
func (f *Feed) takeAll(records iter.Seq2[eventlog.Record, error]) error {
	for record, err := range ahead(records) {
		if err == nil {
			f.takeIn(record)
		} else if !f.passedOver(err) {
			return err
		}
	}
	return nil
}

// take applies a record to the models. It returns nil if the record changes nothing.
func (f *Feed) take(record eventlog.Record) *Change { return f.takeIn(incoming{Record: record}) }

// takeIn is take for a record that may be decoded.
func (f *Feed) takeIn(record incoming) *Change {
	f.forget()
	change, changes := f.folds.change(f.Live, record)
	if !changes {
		f.Live.reached(record.Sequence)
		f.PodEvents.publish(record.Sequence, nil)
		return nil
	}
	turning := turningOf(f.Live, &change)
	f.apply(&change)
	f.PodEvents.publish(record.Sequence, turning.events(f.Live, &change.Record))
	return &change
}

// apply makes a change to the models and to the next checkpoint.
func (f *Feed) apply(change *Change) {
	f.Live.apply(change)
	added, dropped := f.History.apply(change)
	if !f.saver.begin.Load() {
		f.draft.note(change, added, dropped)
	}
}

// passedOver reports whether an error concerns single records and reading continues
// behind them. If they are damaged, the stream's next record reveals it and puts the stream
// aside.
func (f *Feed) passedOver(err error) bool {
	if gap, is := errors.AsType[*eventlog.GapError](err); is {
		f.Live.reached(max(f.Live.Sequence(), gap.Last))
		return true
	}
	damage, is := errors.AsType[*eventlog.DamageError](err)
	if is {
		f.logger.Error("skipping damaged record", "error", damage)
	}
	return is
}

// removed reports whether versions of a stream were removed on purpose, and do not matter to
// its state.
func (f *Feed) removed(s eventlog.Stream, from, through eventlog.Version) bool {
	for _, err := range f.log.ReadStream(context.Background(), s, from) {
		gap, is := errors.AsType[*eventlog.GapError](err)
		return is && gap.Base < from && gap.Through >= through
	}
	return false
}

// Run follows the log until ctx is done or the log ends.
func (f *Feed) Run(ctx context.Context) error {
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		f.saver.run(ctx)
	}()
	err := f.follow(ctx)
	f.turn.Lock()
	f.ended = true
	f.turn.Unlock()
	why := fmt.Errorf("the projections no longer follow the log: %w", err)
	f.Changes.end(why)
	f.PodEvents.end(why)
	close(f.saver.drafts)
	<-saved
	return err
}

func (f *Feed) follow(ctx context.Context) error {
	for record, err := range f.tail.Subscribe(ctx, f.Live.Sequence()+1) {
		if err != nil {
			if f.passedOver(err) {
				f.PodEvents.publish(f.Live.Sequence(), nil)
				f.Changes.publish(f.Live.Sequence(), nil)
				continue
			}
			return err
		}
		f.Changes.publish(record.Sequence, f.turnOf(record))
	}
	return context.Cause(ctx)
}

// turnOf takes a record, and saves the models now and then.
func (f *Feed) turnOf(record eventlog.Record) *Change {
	f.turn.Lock()
	defer f.turn.Unlock()
	change := f.take(record)
	if record.Sequence-f.drafted >= checkpointEvery {
		f.checkpoint()
	}
	return change
}

// checkpoint has the saver save the models as they are now. While the saver is busy, the
// draft grows.
func (f *Feed) checkpoint() {
	if f.saver.busy.Load() {
		return
	}
	f.forget()
	d := f.draft
	if f.saver.begin.Swap(false) {
		d = f.everything()
	}
	d.at = f.Live.Sequence()
	f.saver.offer(d)
	f.draft, f.drafted = newDraft(), d.at
}

// Health returns why the models no longer follow the log; nil if they do.
func (f *Feed) Health() error { return f.Changes.Err() }

// Await returns once the models include a record, so that a caller finds in List what it
// was told.
func (f *Feed) Await(ctx context.Context, sequence eventlog.Sequence) error {
	err := f.Changes.wait(ctx, sequence)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("wait for record %d: %w", sequence, err)
	}
	return err
}
