package boltlog

import (
	"context"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// removal is a trim or a thinning in progress.
//
// One whose records fit in a piece is made by a commit, together with others that wait
// (together). Of any other, one commit records what is to be removed, with the base of a trim;
// from then on readers do not see the records (removing.hides), and pieces turn them into
// holes. The next start continues one that was interrupted.
type removal struct {
	trim  eventlog.Trim // a thinning has none
	under removing      // what is to be removed
	bulk  bulk
	phase phase
	put   put
}

// bulk is at least how much a transaction changes.
type bulk struct{ entries, bytes int }

// fits reports whether it is no more than a piece.
func (b bulk) fits() bool { return b.entries <= pieceEntries && b.bytes <= pieceBytes }

func (b bulk) and(other bulk) bulk { return bulk{b.entries + other.entries, b.bytes + other.bytes} }

// Trim implements eventlog.Log.
func (l *Log) Trim(ctx context.Context, t eventlog.Trim) error {
	err := t.Check()
	if err == nil {
		t.State = append([]byte{}, t.State...)
		under := removing{rule: t.Rule, at: l.writer.stamp().wall, stream: t.Stream, through: t.Through, whole: t.Whole}
		err = l.change(ctx, &removal{trim: t, under: under, bulk: l.bulkOf(ctx, t)})
	}
	if err != nil {
		return fmt.Errorf("trim stream %q: %w", t.Stream, err)
	}
	return nil
}

// bulkOf returns how much a trim removes; more than fits in a piece if that cannot be told. It
// does not get more until the writer has heard of it: Through is given.
func (l *Log) bulkOf(ctx context.Context, t eventlog.Trim) bulk {
	const unknown = pieceEntries + 1
	b := bulk{bytes: len(t.State)}
	for _, r := range l.recent.all() {
		if r.Stream == t.Stream && r.Version <= t.Through {
			b = b.and(bulk{1, recordOverhead(&r) + len(r.Payload)})
		}
	}
	err := l.view(ctx, func(tx *bolt.Tx) error {
		_, keys := gapsOf(tx).through(t.Stream, t.Through, unknown)
		b.entries += len(keys)
		records, cursor := tx.Bucket(bucketRecords), tx.Bucket(bucketIndex).Cursor()
		for k, sequence := cursor.Seek(indexKey(t.Stream, 0)); k != nil && b.fits(); k, sequence = cursor.Next() {
			if s, v, ok := parseIndexKey(k); !ok || s != t.Stream || v > t.Through {
				break
			}
			b = b.and(bulk{1, len(records.Get(sequence))})
		}
		return nil
	})
	if err != nil {
		return bulk{entries: unknown}
	}
	return b
}

// Thin implements eventlog.Log.
func (l *Log) Thin(ctx context.Context, t eventlog.Thin) error {
	err := t.Check()
	if err == nil {
		err = l.thin(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("thin out %d records: %w", len(t.Sequences), err)
	}
	return nil
}

// thin checks the records before the writer hears of them. What is found holds until then: a
// sequence is that of one record for ever, and streams only grow, or go as a whole.
func (l *Log) thin(ctx context.Context, t eventlog.Thin) error {
	if err := t.CheckThrough(l.Last()); err != nil {
		return err
	}
	thinning := &removal{under: removing{rule: t.Rule, at: l.writer.stamp().wall}}
	for i, rest := 0, t.Sequences; len(rest) > 0; rest = rest[i:] {
		i = min(len(rest), chunkRecords)
		there, some, err := l.removable(ctx, t, rest[:i])
		if err != nil {
			return err
		}
		thinning.under.sequences = append(thinning.under.sequences, there...)
		thinning.bulk = thinning.bulk.and(some)
	}
	if len(thinning.under.sequences) == 0 {
		return nil
	}
	return l.change(ctx, thinning)
}

// removable returns those of the sequences that are there, and an error if one must stay.
func (l *Log) removable(ctx context.Context, t eventlog.Thin, sequences []eventlog.Sequence) (there []eventlog.Sequence, all bulk, err error) {
	recent := make(map[eventlog.Sequence]eventlog.Record)
	for _, r := range l.recent.from(sequences[0]) {
		recent[r.Sequence] = r
	}
	var decoder recordDecoder
	err = l.view(ctx, func(tx *bolt.Tx) error {
		under, err := removingOf(tx)
		if err != nil {
			return err
		}
		records, holes := tx.Bucket(bucketRecords), holesOf(tx)
		for _, s := range sequences {
			r, is := recent[s]
			if !is {
				if h, gone := holes.at(s); gone && h.First <= s {
					continue
				}
				if r, err = decodeAt(&decoder, s, records.Get(recordKey(s))); err != nil {
					return &eventlog.DamageError{Sequence: s, Problem: err.Error()}
				}
			}
			if under.hides(&r) {
				continue
			}
			info, err := streamInfo(tx, r.Stream)
			if err != nil {
				return err
			}
			info.Version = max(info.Version, l.recent.head(r.Stream))
			if err := t.CheckAt(r, info); err != nil {
				return err
			}
			there, all = append(there, s), all.and(bulk{1, recordOverhead(&r) + len(r.Payload)})
		}
		return nil
	})
	return there, all, err
}

// resumeRemoval continues a trim or a thinning that an earlier daemon began.
func (p *pending) resumeRemoval() {
	var under removing
	err := p.writer.reader.store.view(context.Background(), false, func(tx *bolt.Tx) (err error) {
		under, err = removingOf(tx)
		return err
	})
	if err != nil {
		p.writer.log.Error("event log: an interrupted removal of records cannot be continued", "cause", err)
	}
	if !under.none() {
		resumed := &removal{under: under, phase: tidying}
		p.waiting = append(p.waiting, &request{change: resumed, done: func([]eventlog.Record, error) {}})
	}
}

func (t *removal) size() int                     { return len(t.trim.State) + 8*len(t.under.sequences) }
func (t *removal) check(eventlog.Sequence) error { return nil }
func (t *removal) inPieces(*pending) bool        { return true }
func (t *removal) due() <-chan struct{}          { return always }
func (t *removal) counts() bool                  { return t.phase > committing }
func (t *removal) proof() put                    { return t.put }
func (t *removal) ended(*pending, error)         {}

func (t *removal) advance(p *pending, r *request) (more bool, err error) {
	if t.phase != committing || !t.bulk.fits() {
		return p.advance(t, r)
	}
	all := p.together()
	p.writer.write(&batch{requests: all})
	for _, other := range all {
		if other != r {
			p.endChange(other, other.err)
		}
	}
	return false, r.err
}

// togetherEntries bounds what a commit removes for several. Each of the entries may be on a page
// of its own, all of which have to be written while appends wait.
const togetherEntries = pieceEntries / 4

// together returns those of the removals that wait, from the first one on, that one commit makes.
func (p *pending) together() (requests []*request) {
	var all bulk
	for _, r := range p.waiting {
		t, is := r.change.(*removal)
		if !is || t.phase > committing {
			break
		}
		all = all.and(t.bulk)
		if len(requests) > 0 && (all.entries > togetherEntries || !all.fits()) {
			break
		}
		requests = append(requests, r)
	}
	return requests
}

func (t *removal) step() func(*bolt.Tx) (bool, error) {
	if t.phase == committing {
		return nil
	}
	return removePiece
}

func (t *removal) next() (more bool) {
	switch t.phase {
	case sweeping:
		t.phase = committing
	default:
		t.phase++
	}
	return t.phase < tidy
}

// into removes what fits in a piece, or records what is to be removed, and the base of a trim.
func (t *removal) into(tx *bolt.Tx) error {
	if t.under.stream != "" {
		if err := t.base(tx); err != nil {
			return err
		}
	}
	t.put = put{bucketMeta, keyRemoving, t.under.value()}
	if t.bulk.fits() {
		if err := removeAll(tx, t.under); err != nil {
			return err
		}
		t.put = put{bucketMeta, keyRemoved, lastValue(tx, 0)}
	}
	return t.put.into(tx)
}

// base writes the base of a trim, unless the whole stream goes.
func (t *removal) base(tx *bolt.Tx) error {
	info, err := streamInfo(tx, t.trim.Stream)
	if err == nil {
		err = t.trim.CheckAt(info)
	}
	if err != nil || t.trim.Whole {
		return err
	}
	sequence, _ := parseRecordKey(tx.Bucket(bucketIndex).Get(indexKey(t.trim.Stream, t.trim.Through)))
	if sequence == 0 {
		return t.trim.NoRecord()
	}
	base := eventlog.Base{
		Version: t.trim.Through, Sequence: sequence, Schema: t.trim.Schema, State: t.trim.State, Removed: info.Base.Removed,
	}
	// What thinnings have not removed before goes now.
	now := t.under.removal(sequence)
	now.First = firstOf(tx, t.trim.Stream, info.Base.Version)
	now.Rules[t.under.rule] = uint64(t.trim.Through - info.Base.Version)
	thinned, _ := gapsOf(tx).through(t.trim.Stream, t.trim.Through, math.MaxInt)
	for i := range thinned {
		now.Rules[t.under.rule] -= min(now.Rules[t.under.rule], thinned[i].Records())
		base.Removed = base.Removed.Join(thinned[i].Removal)
	}
	base.Removed = base.Removed.Join(now)
	return tx.Bucket(bucketBases).Put([]byte(t.trim.Stream), encodeBase(t.trim.Stream, base))
}

// firstOf returns the sequence of a stream's first record behind its base.
func firstOf(tx *bolt.Tx, s eventlog.Stream, base eventlog.Version) eventlog.Sequence {
	_, v := tx.Bucket(bucketIndex).Cursor().Seek(indexKey(s, base+1))
	sequence, _ := parseRecordKey(v)
	return sequence
}
