package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/stele-runtime/stele/eventlog"
)

// snapshotEvery is how many records may pass between two snapshots of a model.
const snapshotEvery = 2000

// Feed keeps the models up with the log.
type Feed struct {
	Live *Live

	log    eventlog.Log
	logger *slog.Logger
	// saved is the sequence of the last snapshot; it belongs to Run.
	saved eventlog.Sequence

	mu sync.Mutex
	// moved is closed, and made anew, when the models have come further.
	moved chan struct{}
	ended error
}

// Open reads the newest snapshot and what the log has after it. The models are
// complete when it returns.
func Open(ctx context.Context, log eventlog.Log, logger *slog.Logger) (*Feed, error) {
	f := &Feed{Live: NewLive(logger), log: log, logger: logger, moved: make(chan struct{})}
	snapshot, found, err := log.LoadSnapshot(ctx, snapshotName)
	if err == nil && found {
		err = f.Live.restore(snapshot)
	}
	if err != nil {
		// A snapshot spares time and nothing else.
		logger.Warn("snapshot passed over, the whole log is read", "error", err)
	}
	f.saved = f.Live.Sequence()
	for record, err := range log.Read(ctx, f.saved+1) {
		if err != nil {
			if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
				// The stream's next record shows the gap and puts it aside.
				logger.Error("damaged record passed over", "error", damage)
				continue
			}
			return nil, fmt.Errorf("read the log after %d: %w", f.Live.Sequence(), err)
		}
		f.Live.apply(record)
	}
	return f, nil
}

// Run follows the log until ctx is done or the log ends.
func (f *Feed) Run(ctx context.Context) error {
	err := f.follow(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = fmt.Errorf("the projections no longer follow the log: %w", err)
	close(f.moved)
	return err
}

// Health returns why the models no longer follow the log; nil if they do.
func (f *Feed) Health() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

func (f *Feed) follow(ctx context.Context) error {
	for record, err := range f.log.Subscribe(ctx, f.Live.Sequence()+1) {
		if err != nil {
			if _, ok := errors.AsType[*eventlog.DamageError](err); ok {
				f.logger.Error("damaged record passed over", "error", err)
				continue
			}
			return err
		}
		f.Live.apply(record)
		f.wake()
		if record.Sequence-f.saved >= snapshotEvery {
			f.save(ctx)
		}
	}
	return context.Cause(ctx)
}

func (f *Feed) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.moved)
	f.moved = make(chan struct{})
}

// save stores a snapshot. Failing to is no harm: the log is longer to read.
func (f *Feed) save(ctx context.Context) {
	snapshot, err := f.Live.snapshot()
	if err == nil {
		err = f.log.SaveSnapshot(ctx, snapshotName, snapshot)
	}
	f.saved = f.Live.Sequence()
	if err != nil {
		f.logger.Warn("snapshot not saved", "error", err)
	}
}

// Await returns once the models have taken in the given record, so that a
// caller who was told of a change finds it in List.
func (f *Feed) Await(ctx context.Context, sequence eventlog.Sequence) error {
	for {
		f.mu.Lock()
		moved, ended := f.moved, f.ended
		f.mu.Unlock()
		switch {
		case f.Live.Sequence() >= sequence:
			return nil
		case ended != nil:
			return ended
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for record %d: %w", sequence, context.Cause(ctx))
		}
	}
}
