package names

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

const (
	checkpointName = "names"
	// schema changes with what is in a pair; an index of another schema is made anew.
	schema = 1
	// behind is how many records the index may lag: so many are read by each search.
	behind = 2000
	// piece is how many pairs are saved or deleted at a time.
	piece = 2000
	// lookEvery is how often the log's end is looked at.
	lookEvery = 5 * time.Second
	// quietly is how long the index may lag on a node where little happens: it must have what
	// retention removes.
	quietly = 10 * time.Minute
	// tidyEvery is after how many records the index follows what was removed from the log.
	tidyEvery = 50_000
	// goneKept is of how many pods and containers it is remembered that they were in the log.
	goneKept = 1000
)

// Index is the index of a log. Find may be called by anyone, Run or Follow by one.
type Index struct {
	log    eventlog.Log
	logger *slog.Logger

	// reached is the index's sequence, 0 if there is none that can be built on; tidied is that
	// at which it was tidied. Both belong to Run.
	reached, tidied eventlog.Sequence
	// anew: what was saved is of no use.
	anew bool
	put  map[string][]byte
	// broken: a search could not read the index.
	broken atomic.Bool
}

// New returns the index of a log, as far as it was saved.
func New(log eventlog.Log, logger *slog.Logger) *Index {
	return &Index{log: log, logger: logger, put: map[string][]byte{}}
}

// Run keeps the index near the log's end until ctx ends.
func (x *Index) Run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var followed time.Time
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		few := x.log.Last() < x.reached+behind && time.Since(followed) < quietly
		if (few || x.log.Last() <= x.reached) && !x.broken.Load() {
			continue
		}
		followed = time.Now()
		if err := x.Follow(ctx); err != nil && ctx.Err() == nil {
			x.logger.Warn("the index of names is not saved, searches by name take longer", "error", err)
		}
	}
}

// Follow brings the index to the log's end, and to what was removed from it.
func (x *Index) Follow(ctx context.Context) error {
	if saved, found, err := x.log.LoadCheckpoint(ctx, checkpointName); err == nil && found && saved.Schema == schema && x.reached == 0 && !x.anew {
		x.reached = saved.Sequence
	}
	if x.broken.Swap(false) {
		x.lose()
	}
	at := x.reached
	for r, err := range x.log.Read(ctx, at+1) {
		if err != nil {
			if gap, removed := errors.AsType[*eventlog.GapError](err); removed {
				at = max(at, gap.Last)
			} else if !passedOver(err) {
				return err
			}
			continue
		}
		at = r.Sequence
		if err := x.note(r); err != nil {
			return err
		}
		if len(x.put) >= piece {
			if err := x.save(ctx, at); err != nil {
				return err
			}
		}
	}
	if err := x.save(ctx, at); err != nil || x.reached < x.tidied+tidyEvery {
		return err
	}
	if err := x.tidy(ctx); err != nil {
		return err
	}
	x.tidied = x.reached
	return nil
}

// passedOver reports whether an error is about single records, and reading goes on behind them.
func passedOver(err error) bool {
	_, damaged := errors.AsType[*eventlog.DamageError](err)
	return damaged || errors.Is(err, eventlog.ErrRemoved)
}

func (x *Index) note(r eventlog.Record) error {
	n, is := named(r)
	if !is {
		return nil
	}
	value, err := n.value()
	if err != nil {
		return fmt.Errorf("encode the name of %s: %w", r.Stream, err)
	}
	x.put[key(r.Sequence)] = value
	return nil
}

// save adds what was noted up to a record.
func (x *Index) save(ctx context.Context, at eventlog.Sequence) error {
	err := x.change(ctx, eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: at, Schema: schema}, Put: x.put})
	clear(x.put) // what could not be saved is read again
	return err
}

func (x *Index) change(ctx context.Context, d eventlog.Delta) error {
	d.After, d.Replace = x.reached, x.reached == 0
	err := x.log.SaveCheckpoint(ctx, checkpointName, d)
	switch {
	case err == nil:
		x.reached, x.anew = d.Sequence, false
	case !errors.Is(err, eventlog.ErrUnavailable) && ctx.Err() == nil:
		x.lose() // what is there now is unknown
	}
	return err
}

// lose has the index made anew.
func (x *Index) lose() { x.reached, x.tidied, x.anew = 0, 0, true }

// tidy forgets what is not in the log any more, but for the newest.
func (x *Index) tidy(ctx context.Context) error {
	saved, found, err := x.log.LoadCheckpoint(ctx, checkpointName)
	if err != nil || !found {
		return err
	}
	var gone []string
	for pair, err := range saved.Pairs {
		if err != nil {
			return err
		}
		n, err := parse(pair.Value)
		if err != nil {
			return fmt.Errorf("decode the index of names at %s: %w", pair.Key, err)
		}
		if _, there, err := x.log.Stream(ctx, n.Stream); err == nil && !there {
			gone = append(gone, pair.Key)
		}
	}
	for gone = gone[:max(0, len(gone)-goneKept)]; len(gone) > 0; {
		n := min(piece, len(gone))
		err := x.change(ctx, eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: x.reached, Schema: schema}, Delete: gone[:n]})
		if err != nil {
			return err
		}
		gone = gone[n:]
	}
	return nil
}

// Find returns what wanted reports, in the order of the log, also if it has ended, or was
// removed from the log lately. Only what has part in one of its names or ids is asked about.
func (x *Index) Find(ctx context.Context, part string, wanted func(Named) bool) ([]Named, error) {
	for {
		found, reached, err := x.indexed(ctx, part, wanted)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, eventlog.ErrStale):
			continue // it was saved again meanwhile
		case err != nil:
			x.logger.Warn("the index of names cannot be read, the whole log is searched", "error", err)
			x.broken.Store(true)
			found, reached = nil, 0
		}
		return x.unindexed(ctx, reached, found, wanted)
	}
}

// indexed searches the index; reached is the record up to which it goes.
func (x *Index) indexed(ctx context.Context, part string, wanted func(Named) bool) (found []Named, reached eventlog.Sequence, err error) {
	saved, there, err := x.log.LoadCheckpoint(ctx, checkpointName)
	if err != nil || !there || saved.Schema != schema {
		return nil, 0, err
	}
	for pair, err := range saved.Pairs {
		if err != nil {
			return nil, 0, err
		}
		if !bytes.Contains(pair.Value, []byte(part)) {
			continue
		}
		n, err := parse(pair.Value)
		if err != nil {
			return nil, 0, fmt.Errorf("decode %s: %w", pair.Key, err)
		}
		if wanted(n) {
			found = append(found, n)
		}
	}
	return found, saved.Sequence, nil
}

// unindexed adds what the log has after a record.
func (x *Index) unindexed(ctx context.Context, after eventlog.Sequence, found []Named, wanted func(Named) bool) ([]Named, error) {
	for r, err := range x.log.Read(ctx, after+1) {
		if err != nil {
			if passedOver(err) {
				continue // stele events says so
			}
			return nil, fmt.Errorf("search the event log: %w", err)
		}
		if n, is := named(r); is && wanted(n) {
			found = append(found, n)
		}
	}
	return found, nil
}
