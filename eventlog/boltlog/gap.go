package boltlog

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// gap is a run of versions of one stream that were thinned out.
type gap struct{ eventlog.GapError }

// gapPrefix is the part of a gap's value before times and rules.
const gapPrefix = 3 * sequenceSize

func (g *gap) key() []byte { return indexKey(g.Stream, g.From) }

// value is the last version, the sequences of both ends, times and rules, and the CRC-32C of
// the key and these.
func (g *gap) value() []byte {
	key := g.key()
	b := binary.BigEndian.AppendUint64(bytes.Clone(key), uint64(g.Through))
	b = append(append(b, recordKey(g.First)...), recordKey(g.Last)...)
	return appendCRC(appendRemoval(b, g.Removal), 0)[len(key):]
}

func parseGap(k, v []byte) (g gap, err error) {
	body, err := checkCRC(append(bytes.Clone(k), v...))
	if err == nil {
		var ok bool
		if g.Stream, g.From, ok = parseIndexKey(k); !ok || len(v) < gapPrefix {
			err = errShort
		}
	}
	if err == nil {
		p := parser{b: body[len(k):]}
		g.Through = eventlog.Version(p.uint64())
		g.First, g.Last = eventlog.Sequence(p.uint64()), eventlog.Sequence(p.uint64())
		parseRemoval(&p, &g.Removal)
		err = p.end()
	}
	if err != nil {
		return gap{}, fmt.Errorf("the removed versions %x are damaged: %w", k, err)
	}
	return g, nil
}

// gaps are those that a transaction sees. A damaged one does not count: its versions are
// missing.
type gaps struct{ bucket *bolt.Bucket }

func gapsOf(tx *bolt.Tx) gaps { return gaps{tx.Bucket(bucketGaps)} }

// before returns the last gap of a stream that begins before a version; ok is false if there
// is none, or it is damaged.
func (g gaps) before(s eventlog.Stream, v eventlog.Version) (found gap, ok bool) {
	if g.bucket == nil {
		return found, false
	}
	cursor := g.bucket.Cursor()
	k, value := pairBefore(cursor, indexKey(s, v))
	if k == nil {
		return found, false
	}
	found, err := parseGap(k, value)
	return found, err == nil && found.Stream == s
}

// absent tells what from..through, which are not in the index, are: removed calls for each
// gap, damaged for what is in none.
func (g gaps) absent(want streamRange, removed func(*eventlog.GapError), damaged func(eventlog.DamageError)) {
	from := want.from
	if found, ok := g.before(want.stream, from); ok && found.Through >= from {
		removed(&found.GapError)
		from = found.Through + 1
	}
	if g.bucket != nil && from <= want.through {
		cursor := g.bucket.Cursor()
		for k, v := cursor.Seek(indexKey(want.stream, from)); k != nil; k, v = cursor.Next() {
			s, version, ok := parseIndexKey(k)
			if ok && (s != want.stream || version > want.through) {
				break
			}
			found, err := parseGap(k, v)
			if err != nil {
				continue
			}
			if found.From > from {
				damaged(missingVersions(want.stream, from, found.From-1))
			}
			removed(&found.GapError)
			from = found.Through + 1
		}
	}
	if from <= want.through {
		damaged(missingVersions(want.stream, from, want.through))
	}
}

// add adds a run of versions, and joins adjacent gaps.
func (g gaps) add(grown gap) error {
	if left, ok := g.before(grown.Stream, grown.From); ok && left.Through+1 == grown.From {
		joined := left.Join(&grown.GapError)
		grown.GapError = *joined
	}
	next := indexKey(grown.Stream, grown.Through+1)
	if v := g.bucket.Get(next); v != nil {
		if right, err := parseGap(next, v); err == nil {
			if err := g.bucket.Delete(next); err != nil {
				return err
			}
			grown.GapError = *grown.Join(&right.GapError)
		}
	}
	return g.bucket.Put(grown.key(), grown.value())
}

// through returns the gaps of a stream that begin at or before a version, at most as many as
// a limit.
func (g gaps) through(s eventlog.Stream, v eventlog.Version, limit int) (found []gap, keys [][]byte) {
	if g.bucket == nil {
		return nil, nil
	}
	cursor := g.bucket.Cursor()
	for k, value := cursor.Seek(indexKey(s, 0)); k != nil && len(keys) < limit; k, value = cursor.Next() {
		stream, from, ok := parseIndexKey(k)
		if !ok || stream != s || from > v {
			break
		}
		keys = append(keys, bytes.Clone(k))
		if one, err := parseGap(k, value); err == nil {
			found = append(found, one)
		}
	}
	return found, keys
}
