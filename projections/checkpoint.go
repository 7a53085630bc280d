package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/eventlog"
)

const (
	checkpointName = "projections"
	// checkpointSchema changes with the shape of any State (a test checks that), and
	// when an Evolve treats an old event differently. An older checkpoint is then not
	// used, and the log is read instead.
	checkpointSchema = 20
	// checkpointEvery is how many records apart checkpoints are.
	checkpointEvery = 2000
)

// load fills empty models from the newest checkpoint, and returns false if there is
// none. After an error the models are unusable.
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
	if n := len(f.Live.damaged); n > 0 {
		// A later version may read what this checkpoint's could not.
		return false, fmt.Errorf("%d streams could not be read", n)
	}
	f.Live.joinPods()
	f.Live.sequence = saved.Sequence
	return true, nil
}

// Saved is the record that the newest checkpoint includes, from which the next start goes on;
// false if that has to read the whole log.
func (f *Feed) Saved(ctx context.Context) (eventlog.Sequence, bool, error) {
	saved, found, err := f.log.LoadCheckpoint(ctx, checkpointName)
	if errors.Is(err, eventlog.ErrCorrupt) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for the checkpoint: %w", err)
	}
	return saved.Sequence, found, nil
}

// Save has a checkpoint saved that includes what the models do now, and does not wait for it.
// While another one is being saved, or when Run has ended, it does nothing.
func (f *Feed) Save() {
	f.turn.Lock()
	defer f.turn.Unlock()
	if !f.ended && f.drafted != f.Live.sequence {
		f.checkpoint()
	}
}

// draft is a change of the checkpoint: what to encode for each key, nil to delete it.
type draft struct {
	at    eventlog.Sequence
	pairs map[string]value
	// whole is what it replaces everything with, but for the pairs; nil if it does not.
	whole *models
}

// models are everything that a checkpoint has, as of one record. Nothing of it changes.
type models struct {
	sandboxes  []*Sandbox
	containers []*Container
	busy       map[eventlog.Stream]*Image
	idle       map[eventlog.Stream]place
	host       *Host
	damaged    map[eventlog.Stream]string
	ended      []Ended
}

func newDraft() *draft { return &draft{pairs: map[string]value{}} }

// note adds what a record changed, also in the history.
func (d *draft) note(c *Change, added, dropped Ended) {
	stream := c.Record.Stream
	switch what := c.What.(type) {
	case StreamPutAside: // its last good state stays, if it is a sandbox's or a container's
		if strings.HasPrefix(string(stream), "image/") {
			d.pairs[key(keyLive, stream)] = nil
		}
		d.pairs[key(keyDamaged, stream)] = damagedValue(stream, what.Reason)
	default:
		d.pairs[key(keyLive, stream)] = valueOf(c)
	}
	if changed, is := c.What.(HostChanged); is {
		if closed, is := changed.Event.(host.StreamClosed); is {
			d.pairs[key(keyLive, eventlog.Stream(closed.Stream))] = nil
			d.pairs[key(keyDamaged, eventlog.Stream(closed.Stream))] = nil
		}
	}
	if added != (Ended{}) {
		d.pairs[endedKey(added)] = endedValue(added)
	}
	if dropped != (Ended{}) {
		d.pairs[endedKey(dropped)] = nil
	}
}

// everything is the draft of a whole checkpoint. Only the feed may call it: it reads the
// model without a lock. It takes as long as there are images: lists that are handed out never
// change, and the saver does the rest.
func (f *Feed) everything() *draft {
	d, l := newDraft(), f.Live
	d.whole = &models{
		sandboxes: l.sandboxes.sorted.all(), containers: l.containers.sorted.all(),
		busy: maps.Clone(l.busy), idle: maps.Clone(l.idle), host: l.host, damaged: maps.Clone(l.damaged),
		ended: f.History.Ended(),
	}
	return d
}

// values are the pairs of a whole checkpoint.
func (m *models) values() map[string]value {
	pairs := make(map[string]value, len(m.sandboxes)+len(m.containers)+len(m.idle)+len(m.ended)+1)
	for _, s := range m.sandboxes {
		stream := eventlog.Stream("sandbox/" + s.State.ID)
		pairs[key(keyLive, stream)] = sandboxValue(stream, s)
	}
	for _, c := range m.containers {
		stream := eventlog.Stream("container/" + c.State.ID)
		pairs[key(keyLive, stream)] = containerValue(stream, c)
	}
	for stream, at := range m.busy {
		pairs[key(keyLive, stream)] = imageValue(stream, at, false)
	}
	for stream, at := range m.idle {
		pairs[key(keyLive, stream)] = imageValue(stream, at.restored(), true)
	}
	pairs[key(keyLive, hostStream)] = hostValue(hostStream, m.host)
	for stream, reason := range m.damaged {
		pairs[key(keyDamaged, stream)] = damagedValue(stream, reason)
	}
	for _, e := range m.ended {
		pairs[endedKey(e)] = endedValue(e)
	}
	return pairs
}

// under merges an earlier draft that could not be saved beneath d.
func (d *draft) under(earlier *draft) {
	if earlier == nil || d.whole != nil {
		return
	}
	for key, v := range earlier.pairs {
		if _, newer := d.pairs[key]; !newer {
			d.pairs[key] = v
		}
	}
	d.whole = earlier.whole
}

// delta encodes a draft against the checkpoint of that sequence.
func (d *draft) delta(after eventlog.Sequence) (eventlog.Delta, error) {
	delta := eventlog.Delta{
		Checkpoint: eventlog.Checkpoint{Sequence: d.at, Schema: checkpointSchema},
		After:      after, Put: map[string][]byte{},
	}
	pairs := d.pairs
	if d.whole != nil {
		delta.After, delta.Replace = 0, true
		pairs = d.whole.values()
		maps.Copy(pairs, d.pairs)
	}
	for key, encode := range pairs {
		if encode == nil {
			if !delta.Replace { // What replaces everything has nothing to delete.
				delta.Delete = append(delta.Delete, key)
			}
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

// saver saves checkpoints in its own goroutine, so that the feed waits neither for the
// encoding nor for the disk.
type saver struct {
	log    eventlog.Log
	logger *slog.Logger
	// drafts has room for one. busy is true from the offer of a draft until it was
	// saved or could not be.
	drafts chan *draft
	busy   atomic.Bool
	// begin: there is no checkpoint to build on, so the next draft must be whole.
	begin atomic.Bool

	// saved is the sequence of the newest checkpoint, unsaved what could not be saved
	// yet. They belong to run.
	saved   eventlog.Sequence
	unsaved *draft
}

func newSaver(log eventlog.Log, logger *slog.Logger) *saver {
	return &saver{log: log, logger: logger, drafts: make(chan *draft, 1)}
}

// offer hands over a draft. The saver must not be busy.
func (s *saver) offer(d *draft) {
	s.busy.Store(true)
	s.drafts <- d
}

// saveAfter is how long after its begin a saver saves the first draft: who asks a daemon that starts
// does not wait for that.
const saveAfter = time.Second

// run saves drafts until there are no more.
func (s *saver) run(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(saveAfter):
	}
	for d := range s.drafts {
		if err := s.save(ctx, d); err != nil && ctx.Err() == nil {
			s.logger.Warn("checkpoint not saved, the next start reads more of the log", "error", err)
		}
	}
}

// save saves a draft and what could not be saved before. A failure is harmless: the next
// start reads more of the log.
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
		// What is there now is unknown, so a whole checkpoint must replace it.
		s.unsaved = nil
		s.begin.Store(true)
	}
	return err
}
