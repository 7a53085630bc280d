package boltlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// hole is a range of records that were trimmed.
type hole struct {
	first, last eventlog.Sequence
}

// value is the last sequence, and the CRC-32C of both.
func (h hole) value() []byte {
	return appendCRC(append(recordKey(h.first), recordKey(h.last)...), 0)[sequenceSize:]
}

func parseHole(k, v []byte) (h hole, err error) {
	body, err := checkCRC(append(bytes.Clone(k), v...))
	if err == nil && len(body) != 2*sequenceSize {
		err = fmt.Errorf("%d bytes", len(body))
	}
	if err != nil {
		return h, fmt.Errorf("the dropped range %x is damaged: %w", k, err)
	}
	h.first, _ = parseRecordKey(body[:sequenceSize])
	h.last, _ = parseRecordKey(body[sequenceSize:])
	return h, nil
}

// holes are those that a transaction sees. A damaged one does not count: its records are
// missing.
type holes struct{ bucket *bolt.Bucket }

func holesOf(tx *bolt.Tx) holes { return holes{tx.Bucket(bucketHoles)} }

// at returns the first hole that ends at or behind a sequence.
func (h holes) at(s eventlog.Sequence) (found hole, ok bool) {
	if h.bucket == nil {
		return found, false
	}
	cursor := h.bucket.Cursor()
	var v []byte
	k, _ := cursor.Seek(recordKey(s + 1))
	if k == nil {
		k, v = cursor.Last()
	} else if before, value := cursor.Prev(); before != nil {
		k, v = before, value
	} else {
		k, v = cursor.First()
	}
	for ; k != nil; k, v = cursor.Next() {
		if found, err := parseHole(k, v); err == nil && found.last >= s {
			return found, true
		}
	}
	return found, false
}

// behind returns the first sequence from s on that is in no hole.
func (h holes) behind(s eventlog.Sequence) eventlog.Sequence {
	for {
		found, ok := h.at(s)
		if !ok || found.first > s {
			return s
		}
		s = found.last + 1
	}
}

// missing calls fn for the parts of from..through, where no record was found, that are in no
// hole.
func (h holes) missing(from, through eventlog.Sequence, fn func(eventlog.DamageError)) {
	for from <= through {
		if from = h.behind(from); from > through {
			return
		}
		last := through
		if next, ok := h.at(from); ok {
			last = min(last, next.first-1)
		}
		fn(missing(from, last))
		from = last + 1
	}
}

// add adds a sequence, and joins adjacent holes.
func (h holes) add(s eventlog.Sequence) error {
	grown := hole{s, s}
	cursor := h.bucket.Cursor()
	k, v := cursor.Seek(recordKey(s))
	if right, err := parseHole(k, v); k != nil && err == nil && right.first <= s+1 {
		grown.last = max(s, right.last)
	}
	if k == nil {
		k, v = cursor.Last()
	} else {
		k, v = cursor.Prev()
	}
	if left, err := parseHole(k, v); k != nil && err == nil && left.last+1 >= s {
		grown.first, grown.last = left.first, max(left.last, grown.last)
	}
	if grown.last > s {
		if err := h.bucket.Delete(recordKey(s + 1)); err != nil {
			return err
		}
	}
	return h.bucket.Put(recordKey(grown.first), grown.value())
}

// baseFormat is the first byte of a stream's base.
const baseFormat = 0x01

func encodeBase(s eventlog.Stream, b eventlog.Base) []byte {
	out := appendString([]byte{baseFormat}, string(s))
	for _, n := range []uint64{uint64(b.Version), uint64(b.Sequence), uint64(b.Schema)} {
		out = binary.AppendUvarint(out, n)
	}
	return appendCRC(appendString(out, string(b.State)), 0)
}

// decodeBase copies, and trusts nothing.
func decodeBase(s eventlog.Stream, v []byte) (b eventlog.Base, err error) {
	body, err := checkCRC(v)
	if err != nil {
		return b, err
	}
	p := parser{b: body}
	if format := p.byte(); format != baseFormat {
		return b, fmt.Errorf("base format %d is not known", format)
	}
	written := eventlog.Stream(p.bytes(eventlog.MaxName))
	b.Version = eventlog.Version(p.uvarint(math.MaxUint64))
	b.Sequence = eventlog.Sequence(p.uvarint(math.MaxUint64))
	b.Schema = uint32(p.uvarint(math.MaxUint32))
	state := p.bytes(eventlog.MaxValue)
	if err := p.end(); err != nil {
		return eventlog.Base{}, err
	}
	if written != s {
		return eventlog.Base{}, fmt.Errorf("it says that it is the base of %q", written)
	}
	b.State = append([]byte{}, state...)
	return b, nil
}

// baseOf returns the base of a stream; a zero one if it has all its records.
func baseOf(tx *bolt.Tx, s eventlog.Stream) (b eventlog.Base, err error) {
	bucket := tx.Bucket(bucketBases)
	if bucket == nil {
		return b, nil
	}
	v := bucket.Get([]byte(s))
	if v == nil {
		return b, nil
	}
	if b, err = decodeBase(s, v); err != nil {
		err = &eventlog.DamageError{Stream: s, Problem: fmt.Sprintf("its base: %v", err)}
	}
	return b, err
}

// trimmed is a committed trim some of whose records may still be stored. There is one at a
// time.
type trimmed struct {
	stream  eventlog.Stream
	through eventlog.Version
	whole   bool
}

func (t trimmed) value() []byte {
	b := binary.AppendUvarint(appendString(nil, string(t.stream)), uint64(t.through))
	whole := byte(0)
	if t.whole {
		whole = 1
	}
	return appendCRC(append(b, whole), 0)
}

var errTrimmed = errors.New("the record of the trim under way is damaged")

// trimmedOf returns the trim that is under way; a zero one if there is none.
func trimmedOf(tx *bolt.Tx) (t trimmed, err error) {
	v := tx.Bucket(bucketMeta).Get(keyTrimmed)
	if v == nil {
		return t, nil
	}
	body, err := checkCRC(v)
	if err != nil {
		return t, fmt.Errorf("%w: %w", errTrimmed, err)
	}
	p := parser{b: body}
	t.stream = eventlog.Stream(p.bytes(eventlog.MaxName))
	t.through = eventlog.Version(p.uvarint(math.MaxUint64))
	t.whole = p.byte() == 1
	if err := p.end(); err != nil {
		return trimmed{}, fmt.Errorf("%w: %w", errTrimmed, err)
	}
	return t, nil
}

// hides reports whether a version of a stream is trimmed although it is still stored.
func (t trimmed) hides(s eventlog.Stream, v eventlog.Version) bool {
	return v <= t.through && s == t.stream
}

// streamInfo describes a stream; its version is 0 if it does not exist.
func streamInfo(tx *bolt.Tx, s eventlog.Stream) (info eventlog.StreamInfo, err error) {
	info.Stream = s
	under, _ := trimmedOf(tx) // Verify reports the damage
	if under.whole && under.stream == s {
		return info, nil
	}
	if info.Base, err = baseOf(tx, s); err != nil {
		return info, err
	}
	head, _ := streamHead(tx, s)
	info.Version = max(head, info.Base.Version)
	return info, nil
}
