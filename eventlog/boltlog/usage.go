package boltlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// usage are counters that each transaction keeps.
type usage struct {
	bytes   int64          // of the records in the bbolt file
	removed eventlog.Rules // records that were removed
}

func (u usage) value() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(u.bytes))
	return appendCRC(appendRemoval(b, eventlog.Removal{Rules: u.removed}), 0)
}

// usageOf returns the counters. A log of an older format has none: they are counted.
func usageOf(tx *bolt.Tx) (u usage, err error) {
	v := tx.Bucket(bucketMeta).Get(keyUsage)
	if v == nil {
		return countUsage(tx)
	}
	body, err := checkCRC(v)
	if err == nil {
		p := parser{b: body}
		u.bytes = int64(p.uint64())
		var r eventlog.Removal
		parseRemoval(&p, &r)
		u.removed = r.Rules
		err = p.end()
	}
	if err != nil {
		return usage{}, fmt.Errorf("%w: its counters: %w", eventlog.ErrCorrupt, err)
	}
	return u, nil
}

// countUsage reads all records.
func countUsage(tx *bolt.Tx) (u usage, err error) {
	u.removed = make(eventlog.Rules)
	err = tx.Bucket(bucketRecords).ForEach(func(_, v []byte) error {
		u.bytes += int64(len(v))
		return nil
	})
	if holes := tx.Bucket(bucketHoles); holes != nil && err == nil {
		err = holes.ForEach(func(k, v []byte) error {
			if h, err := parseHole(k, v); err == nil {
				u.removed = u.removed.With(h.Rules)
			}
			return nil
		})
	}
	return u, err
}

// addUsage adds to the counters. Damaged ones stay as they are until the next compaction.
func addUsage(tx *bolt.Tx, more usage) error {
	u, err := usageOf(tx)
	if err != nil {
		return nil //nolint:nilerr // they are no reason not to write
	}
	u.bytes, u.removed = u.bytes+more.bytes, u.removed.With(more.removed)
	return tx.Bucket(bucketMeta).Put(keyUsage, u.value())
}

// Usage implements eventlog.Reader.
func (r *Reader) Usage(ctx context.Context) (u eventlog.Usage, err error) {
	recent := r.recent.all()
	err = r.store.viewHandle(ctx, false, func(h *handle, tx *bolt.Tx) error {
		counted, err := usageOf(tx)
		if err != nil {
			return err
		}
		info, err := h.file.Stat()
		if err != nil {
			return err
		}
		u.Bytes, u.Free = info.Size(), max(info.Size()-h.inUse(tx), 0)
		u.RecordBytes, u.Removed = counted.bytes, counted.removed
		if k, _ := tx.Bucket(bucketRecords).Cursor().First(); k != nil {
			u.First, _ = parseRecordKey(k)
		}
		return nil
	})
	if err != nil {
		return eventlog.Usage{}, fmt.Errorf("usage of event log %s: %w", r.store.opener.path, err)
	}
	u.Last = r.Last()
	u.Records = uint64(u.Last) - min(uint64(u.Last), u.Removed.Total())
	for i := range recent {
		u.RecordBytes += int64(recordOverhead(&recent[i]) + len(recent[i].Payload))
	}
	if len(recent) > 0 && u.First == 0 {
		u.First = recent[0].Sequence
	}
	if info, err := os.Stat(journalPath(r.store.opener.path)); err == nil {
		u.Bytes += info.Size()
	}
	return u, nil
}

// inUse is how many bytes of the file hold something.
func (h *handle) inUse(tx *bolt.Tx) int64 {
	if h.db.IsReadOnly() {
		return h.walked // bbolt has no list of free pages then
	}
	stats := h.db.Stats()
	return tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(h.db.Info().PageSize)
}

var errNotCounted = errors.New("the counters differ from what there is")

// usage checks the counters, if nothing is missing that they have counted.
func (v *verifier) usage() error {
	if !v.report.OK() {
		return nil
	}
	counted, err := countUsage(v.tx)
	if err != nil {
		return err
	}
	u, err := usageOf(v.tx)
	if err == nil && (u.bytes != counted.bytes || u.removed.String() != counted.removed.String()) {
		err = fmt.Errorf("%w: %d bytes, %v; counted %d bytes, %v", errNotCounted, counted.bytes, counted.removed, u.bytes, u.removed)
	}
	if err != nil {
		v.damage(eventlog.DamageError{Problem: err.Error()})
	}
	return nil
}
