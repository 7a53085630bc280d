package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/stele-runtime/stele/eventlog"
)

// Feed keeps the models up with the log.
type Feed struct {
	Live    *Live
	History *History
	// Changes are those that Run takes in.
	Changes *Changes

	folds  folds
	log    eventlog.Log
	logger *slog.Logger
	// draft is what the next checkpoint has to say, drafted is of which record the last
	// one was that the saver took.
	draft   *draft
	drafted eventlog.Sequence
	saver   *saver
}

func newFeed(log eventlog.Log, logger *slog.Logger) *Feed {
	return &Feed{
		Live: newLive(logger), History: &History{}, Changes: newChanges(),
		folds: newFolds(), log: log, logger: logger,
		draft: newDraft(), saver: newSaver(log, logger),
	}
}

// Open reads the newest checkpoint and what the log has after it. The models are
// complete when it returns.
func Open(ctx context.Context, log eventlog.Log, logger *slog.Logger) (*Feed, error) {
	f := newFeed(log, logger)
	found, err := f.load(ctx)
	if err != nil {
		// A checkpoint spares time and nothing else.
		logger.Warn("checkpoint passed over, the whole log is read", "error", err)
		f = newFeed(log, logger)
	}
	f.drafted, f.saver.saved = f.Live.Sequence(), f.Live.Sequence()
	f.saver.begin.Store(!found)
	for record, err := range log.Read(ctx, f.Live.Sequence()+1) {
		if err != nil {
			if f.passedOver(err) {
				continue
			}
			return nil, fmt.Errorf("read the log after %d: %w", f.Live.Sequence(), err)
		}
		f.take(record)
	}
	f.Changes.begin(f.Live.Sequence())
	return f, nil
}

// take brings a record into the models. It returns nil if that changed nothing.
func (f *Feed) take(record eventlog.Record) *Change {
	change, changes := f.folds.change(f.Live, record)
	if !changes {
		f.Live.reached(record.Sequence)
		return nil
	}
	var pod *Sandbox
	if c, is := change.What.(ContainerChanged); is {
		pod = f.Live.Sandbox(c.After.State.Sandbox)
	}
	f.Live.apply(&change)
	came, gone := f.History.apply(&change, pod)
	if !f.saver.begin.Load() {
		f.draft.note(&change, came, gone)
	}
	return &change
}

// passedOver reports whether an error is about one record and the log goes on behind
// it. The next record of the stream shows the gap, which puts the stream aside.
func (f *Feed) passedOver(err error) bool {
	damage, is := errors.AsType[*eventlog.DamageError](err)
	if is {
		f.logger.Error("damaged record passed over", "error", damage)
	}
	return is
}

// Run follows the log until ctx is done or the log ends.
func (f *Feed) Run(ctx context.Context) error {
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		f.saver.run(ctx)
	}()
	err := f.follow(ctx)
	f.Changes.end(fmt.Errorf("the projections no longer follow the log: %w", err))
	close(f.saver.drafts)
	<-saved
	return err
}

func (f *Feed) follow(ctx context.Context) error {
	for record, err := range f.log.Subscribe(ctx, f.Live.Sequence()+1) {
		if err != nil {
			if f.passedOver(err) {
				continue
			}
			return err
		}
		f.Changes.publish(record.Sequence, f.take(record))
		if record.Sequence-f.drafted >= checkpointEvery {
			f.checkpoint()
		}
	}
	return context.Cause(ctx)
}

// checkpoint has the saver save the models as they are now. While it is busy with the
// one before, the draft grows.
func (f *Feed) checkpoint() {
	if f.saver.busy.Load() {
		return
	}
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

// Await returns once the models have taken in a record, so that a caller who was told
// of a change finds it in List.
func (f *Feed) Await(ctx context.Context, sequence eventlog.Sequence) error {
	err := f.Changes.wait(ctx, sequence)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("wait for record %d: %w", sequence, err)
	}
	return err
}
