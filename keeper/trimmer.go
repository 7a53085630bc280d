package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/stele-runtime/stele/eventlog"
)

// trimmer removes streams, and their beginnings.
type trimmer struct {
	log    eventlog.Log
	views  Views
	logger *slog.Logger
}

// atOnce is how many streams are removed at a time.
const atOnce = 32

// whole removes streams, many at a time: the log makes small trims that wait together
// durable together.
func (t trimmer) whole(ctx context.Context, all []eventlog.StreamInfo, rule string) (failed error) {
	for some := range slices.Chunk(all, atOnce) {
		errs := make([]error, len(some))
		var under sync.WaitGroup
		for i, info := range some {
			under.Go(func() {
				errs[i] = t.log.Trim(ctx, eventlog.Trim{Stream: info.Stream, Through: info.Version, Whole: true, Rule: rule})
			})
		}
		under.Wait()
		for i, info := range some {
			if err := t.done(info.Stream, errs[i]); err != nil {
				failed = fmt.Errorf("remove %s: %w", info.Stream, err)
				continue
			}
			t.views.Forget(info.Stream)
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// done ignores what concerns one stream only: that it goes on after all, that it is gone
// already, or that it is damaged.
func (t trimmer) done(stream eventlog.Stream, err error) error {
	_, version := errors.AsType[*eventlog.WrongVersionError](err)
	switch {
	case err == nil, version:
		return nil
	case errors.Is(err, eventlog.ErrCorrupt), errors.Is(err, eventlog.ErrInvalid):
		t.logger.Warn("records of a stream are kept: they cannot be removed", "stream", string(stream), "error", err)
		return nil
	}
	return err
}
