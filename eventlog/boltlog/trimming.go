package boltlog

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// trimming is a trim in progress. One commit records it, with the base; from then on readers
// do not see the records (trimmed.hides), and pieces turn them into holes. The next start
// continues a trim that was interrupted.
type trimming struct {
	trim  eventlog.Trim
	phase phase
	put   put // what the commit records
}

// Trim implements eventlog.Log.
func (l *Log) Trim(ctx context.Context, t eventlog.Trim) error {
	err := t.Check()
	if err == nil {
		t.State = append([]byte{}, t.State...)
		err = l.change(ctx, &trimming{trim: t})
	}
	if err != nil {
		return fmt.Errorf("trim stream %q: %w", t.Stream, err)
	}
	return nil
}

// resumeTrim continues a trim that an earlier daemon began.
func (p *pending) resumeTrim() {
	var under trimmed
	err := p.writer.reader.store.view(context.Background(), false, func(tx *bolt.Tx) (err error) {
		under, err = trimmedOf(tx)
		return err
	})
	if err != nil {
		p.writer.log.Error("event log: an interrupted trim cannot be continued", "cause", err)
	}
	if under != (trimmed{}) {
		t := &trimming{trim: eventlog.Trim{Stream: under.stream}, phase: tidying}
		p.waiting = append(p.waiting, &request{change: t, done: func([]eventlog.Record, error) {}})
	}
}

func (t *trimming) size() int                     { return len(t.trim.State) }
func (t *trimming) check(eventlog.Sequence) error { return nil }
func (t *trimming) inPieces(*pending) bool        { return true }
func (t *trimming) counts() bool                  { return t.phase > committing }
func (t *trimming) proof() put                    { return t.put }
func (t *trimming) ended(*pending, error)         {}

func (t *trimming) step() func(*bolt.Tx) (bool, error) {
	if t.phase == committing {
		return nil
	}
	return removeTrimmed
}

func (t *trimming) next() (more bool) {
	switch t.phase {
	case sweeping:
		t.phase = committing
	default:
		t.phase++
	}
	return t.phase < tidy
}

// into records the trim and its base.
func (t *trimming) into(tx *bolt.Tx) error {
	info, err := streamInfo(tx, t.trim.Stream)
	if err == nil {
		err = t.trim.CheckAt(info)
	}
	if err != nil {
		return err
	}
	if !t.trim.Whole {
		base := eventlog.Base{Version: t.trim.Through, Schema: t.trim.Schema, State: t.trim.State}
		base.Sequence, _ = parseRecordKey(tx.Bucket(bucketIndex).Get(indexKey(t.trim.Stream, t.trim.Through)))
		if err := tx.Bucket(bucketBases).Put([]byte(t.trim.Stream), encodeBase(t.trim.Stream, base)); err != nil {
			return err
		}
	}
	t.put = put{bucketMeta, keyTrimmed, trimmed{t.trim.Stream, t.trim.Through, t.trim.Whole}.value()}
	return t.put.into(tx)
}

// removeTrimmed removes a piece of what was trimmed; done when there is no trim under way.
func removeTrimmed(tx *bolt.Tx) (done bool, err error) {
	under, err := trimmedOf(tx)
	if err != nil || under == (trimmed{}) {
		return true, nil // a damaged one does not say what to remove
	}
	versions := versionsOf(tx, under)
	for _, v := range versions {
		if err := removeVersion(tx, under.stream, v); err != nil {
			return false, err
		}
	}
	if len(versions) > 0 {
		return false, nil
	}
	if under.whole {
		if err := tx.Bucket(bucketBases).Delete([]byte(under.stream)); err != nil {
			return false, err
		}
	}
	return false, tx.Bucket(bucketMeta).Delete(keyTrimmed)
}

// versionsOf returns some versions that were trimmed and are still stored.
func versionsOf(tx *bolt.Tx, under trimmed) (versions []eventlog.Version) {
	cursor := tx.Bucket(bucketIndex).Cursor()
	for k, _ := cursor.Seek(indexKey(under.stream, 0)); k != nil && len(versions) < pieceEntries; k, _ = cursor.Next() {
		s, v, ok := parseIndexKey(k)
		if !ok || s != under.stream || v > under.through {
			break
		}
		versions = append(versions, v)
	}
	return versions
}

// removeVersion turns a record into a hole. If a damaged index leads to another stream's
// record, that record stays.
func removeVersion(tx *bolt.Tx, s eventlog.Stream, v eventlog.Version) error {
	index, records := tx.Bucket(bucketIndex), tx.Bucket(bucketRecords)
	key := indexKey(s, v)
	sequence, ok := parseRecordKey(index.Get(key))
	if ok {
		var decoder recordDecoder
		r, err := decodeAt(&decoder, sequence, records.Get(recordKey(sequence)))
		if err != nil || r.Stream == s && r.Version == v {
			if err := holesOf(tx).add(sequence); err != nil {
				return fmt.Errorf("record the hole of %d: %w", sequence, err)
			}
			if err := records.Delete(recordKey(sequence)); err != nil {
				return fmt.Errorf("remove record %d: %w", sequence, err)
			}
		}
	}
	return index.Delete(key)
}
