package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/stele-runtime/stele/eventlog"
)

const (
	checkpointName = "projections"
	// checkpointSchema changes whenever the shape of a State does (a test sees to that)
	// or what an Evolve makes of an old event, so that an older checkpoint is passed
	// over and the log is read instead.
	checkpointSchema = 8
	// checkpointEvery is after how many records the next checkpoint is due.
	checkpointEvery = 2000
)

// load fills empty models from the newest checkpoint. It returns false if there is none.
// After an error the models are of no use.
func (f *Feed) load(ctx context.Context) (found bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("load the checkpoint: panic: %v", p)
		}
	}()
	saved, found, err := f.log.LoadCheckpoint(ctx, checkpointName)
	switch {
	case err != nil || !found:
		return false, err
	case saved.Schema != checkpointSchema:
		return false, fmt.Errorf("the checkpoint has schema %d, not %d", saved.Schema, checkpointSchema)
	case saved.Sequence > f.log.Last():
		return false, fmt.Errorf("the checkpoint is of record %d, the log ends at %d", saved.Sequence, f.log.Last())
	}
	for pair, err := range saved.Pairs {
		if err == nil {
			err = f.put(pair.Key, pair.Value)
		}
		if err != nil {
			return false, fmt.Errorf("load the checkpoint of record %d, %s: %w", saved.Sequence, pair.Key, err)
		}
	}
	f.Live.sequence = saved.Sequence
	return true, nil
}

// draft is what of a checkpoint has changed: what to encode for each key, nil where it
// goes away.
type draft struct {
	at    eventlog.Sequence
	pairs map[string]value
	// whole: the pairs are all that there are.
	whole bool
}

func newDraft() *draft { return &draft{pairs: map[string]value{}} }

// note takes in what a record changed, also in the history.
func (d *draft) note(c *Change, came, gone *Ended) {
	stream := c.Record.Stream
	d.pairs[key(keyLive, stream)] = valueOf(c)
	if put, aside := c.What.(StreamPutAside); aside {
		d.pairs[key(keyDamaged, stream)] = damagedValue(stream, put.Reason)
	}
	if came != nil {
		d.pairs[endedKey(came)] = endedValue(came)
	}
	if gone != nil {
		d.pairs[endedKey(gone)] = nil
	}
}

// everything is the draft of a whole checkpoint. Only the feed may call it: it reads the
// model without a lock.
func (f *Feed) everything() *draft {
	d := newDraft()
	d.whole = true
	l := f.Live
	for name, s := range l.sandboxes.byID {
		stream := eventlog.Stream("sandbox/" + name)
		d.pairs[key(keyLive, stream)] = sandboxValue(stream, s)
	}
	for name, c := range l.containers.byID {
		stream := eventlog.Stream("container/" + name)
		d.pairs[key(keyLive, stream)] = containerValue(stream, c)
	}
	for stream, at := range l.busy {
		d.pairs[key(keyLive, stream)] = imageValue(stream, at, false)
	}
	for stream, at := range l.idle {
		d.pairs[key(keyLive, stream)] = imageValue(stream, at.restored(), true)
	}
	d.pairs[key(keyLive, hostStream)] = hostValue(hostStream, l.host)
	for stream, reason := range l.damaged {
		d.pairs[key(keyDamaged, stream)] = damagedValue(stream, reason)
	}
	for _, e := range f.History.Ended() {
		d.pairs[endedKey(e)] = endedValue(e)
	}
	return d
}

// under adds what an earlier draft has that could not be saved.
func (d *draft) under(earlier *draft) {
	if earlier == nil || d.whole {
		return
	}
	for key, v := range earlier.pairs {
		if _, newer := d.pairs[key]; !newer {
			d.pairs[key] = v
		}
	}
	d.whole = earlier.whole
}

// delta encodes a draft behind a checkpoint.
func (d *draft) delta(after eventlog.Sequence) (eventlog.Delta, error) {
	delta := eventlog.Delta{
		Checkpoint: eventlog.Checkpoint{Sequence: d.at, Schema: checkpointSchema},
		After:      after, Replace: d.whole, Put: map[string][]byte{},
	}
	if d.whole {
		delta.After = 0
	}
	for key, encode := range d.pairs {
		if encode == nil {
			delta.Delete = append(delta.Delete, key)
			continue
		}
		b, err := encode()
		if err != nil {
			return eventlog.Delta{}, fmt.Errorf("encode %s: %w", key, err)
		}
		delta.Put[key] = b
	}
	return delta, nil
}

// saver saves checkpoints in a goroutine of its own, so that neither the encoding nor
// the disk keeps the feed from going on.
type saver struct {
	log    eventlog.Log
	logger *slog.Logger
	// drafts has room for the one that the saver is busy with, from its offer on until
	// it is saved or cannot be.
	drafts chan *draft
	busy   atomic.Bool
	// begin: there is no checkpoint that can be gone on with, so that the next draft has
	// to be whole.
	begin atomic.Bool

	// saved is the sequence of the newest checkpoint, unsaved what could not be saved so
	// far. They belong to run.
	saved   eventlog.Sequence
	unsaved *draft
}

func newSaver(log eventlog.Log, logger *slog.Logger) *saver {
	return &saver{log: log, logger: logger, drafts: make(chan *draft, 1)}
}

// offer hands a draft to a saver that is not busy.
func (s *saver) offer(d *draft) {
	s.busy.Store(true)
	s.drafts <- d
}

// run saves what it is offered until the drafts end.
func (s *saver) run(ctx context.Context) {
	for d := range s.drafts {
		if err := s.save(ctx, d); err != nil && ctx.Err() == nil {
			s.logger.Warn("checkpoint not saved, a start has to read more of the log", "error", err)
		}
	}
}

// save saves a draft, with what could not be saved before. Failing to is no harm: the
// log is longer to read.
func (s *saver) save(ctx context.Context, d *draft) error {
	defer s.busy.Store(false)
	d.under(s.unsaved)
	delta, err := d.delta(s.saved)
	if err == nil {
		err = s.log.SaveCheckpoint(ctx, checkpointName, delta)
	}
	switch {
	case err == nil:
		s.saved, s.unsaved = d.at, nil
	case errors.Is(err, eventlog.ErrUnavailable):
		s.unsaved = d
	default:
		// Whatever is there now, a whole checkpoint replaces it.
		s.unsaved = nil
		s.begin.Store(true)
	}
	return err
}
