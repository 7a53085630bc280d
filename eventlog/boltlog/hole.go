package boltlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// appendRemoval appends times and rules of a removal.
func appendRemoval(b []byte, r eventlog.Removal) []byte {
	b = appendTime(appendTime(b, r.Since), r.Until)
	for _, rule := range slices.Sorted(maps.Keys(r.Rules)) {
		b = binary.AppendUvarint(appendString(b, rule), r.Rules[rule])
	}
	return b
}

// parseRemoval parses what appendRemoval has appended, up to the end.
func parseRemoval(p *parser, r *eventlog.Removal) {
	r.Since, r.Until = parseTime(p), parseTime(p)
	r.Rules = make(eventlog.Rules)
	for before := ""; len(p.b) > 0; {
		rule := string(p.bytes(eventlog.MaxRule))
		if rule <= before {
			p.fail(errOrder)
		}
		r.Rules[rule] = p.uvarint(math.MaxUint64)
		before = rule
	}
}

// appendTime appends nanoseconds since 1970; 0 is an unknown time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func parseTime(p *parser) time.Time {
	n := int64(p.uint64())
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// hole is a run of records that were removed.
type hole struct{ eventlog.Removal }

// value is the last sequence, times and rules, and the CRC-32C of the key and these.
func (h hole) value() []byte {
	return appendCRC(appendRemoval(append(recordKey(h.First), recordKey(h.Last)...), h.Removal), 0)[sequenceSize:]
}

func (h hole) gap() *eventlog.GapError { return &eventlog.GapError{Removal: h.Removal} }

func parseHole(k, v []byte) (h hole, err error) {
	body, err := checkCRC(append(bytes.Clone(k), v...))
	if err == nil {
		p := parser{b: body}
		h.First, h.Last = eventlog.Sequence(p.uint64()), eventlog.Sequence(p.uint64())
		if p.err == nil && len(p.b) == 0 { // of the second format
			h.Rules = eventlog.Rules{eventlog.UnknownRule: uint64(h.Last-h.First) + 1}
		} else {
			parseRemoval(&p, &h.Removal)
		}
		err = p.end()
	}
	if err != nil {
		return hole{}, fmt.Errorf("the removed range %x is damaged: %w", k, err)
	}
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
	k, v := pairBefore(cursor, recordKey(s+1))
	if k == nil {
		k, v = cursor.First()
	}
	for ; k != nil; k, v = cursor.Next() {
		if found, err := parseHole(k, v); err == nil && found.Last >= s {
			return found, true
		}
	}
	return found, false
}

// behind returns the first sequence from s on that is in no hole.
func (h holes) behind(s eventlog.Sequence) eventlog.Sequence {
	for {
		found, ok := h.at(s)
		if !ok || found.First > s {
			return s
		}
		s = found.Last + 1
	}
}

// absent tells what from..through, where no record was found, is: removed calls for each
// hole, damaged for what is in none.
func (h holes) absent(from, through eventlog.Sequence, removed func(*eventlog.GapError), damaged func(eventlog.DamageError)) {
	for from <= through {
		next, ok := h.at(from)
		switch {
		case !ok || next.First > through:
			damaged(missing(from, through))
			return
		case next.First > from:
			damaged(missing(from, next.First-1))
		}
		removed(next.gap())
		from = next.Last + 1
	}
}

// add adds a run of records, and joins adjacent holes.
func (h holes) add(grown hole) error {
	cursor := h.bucket.Cursor()
	k, v := cursor.Seek(recordKey(grown.First))
	right, err := parseHole(k, v)
	joins := k != nil && err == nil && right.First == grown.Last+1
	k, v = pairBefore(cursor, recordKey(grown.First))
	if left, err := parseHole(k, v); k != nil && err == nil && left.Last+1 == grown.First {
		grown.Removal = left.Join(grown.Removal)
	}
	if joins {
		if err := h.bucket.Delete(recordKey(right.First)); err != nil {
			return err
		}
		grown.Removal = grown.Join(right.Removal)
	}
	return h.bucket.Put(recordKey(grown.First), grown.value())
}
