package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// removing is a committed trim or thinning some of whose records may still be stored. There
// is one at a time. Readers see none of its records.
type removing struct {
	rule string
	at   time.Time

	// Of a trim.
	stream  eventlog.Stream
	through eventlog.Version
	whole   bool

	// Of a thinning: ascending, without those that are no longer stored.
	sequences []eventlog.Sequence
}

// Kinds of removals, in the file.
const (
	removingThin   = 0x01
	removingPrefix = 0x02
	removingWhole  = 0x03
)

func (r *removing) none() bool { return r.stream == "" && len(r.sequences) == 0 }

// drops reports whether a whole stream is being removed.
func (r *removing) drops(s eventlog.Stream) bool { return r.whole && r.stream == s }

// hides reports whether a record is removed although it is still stored.
func (r *removing) hides(record *eventlog.Record) bool {
	if r.stream != "" {
		return record.Version <= r.through && record.Stream == r.stream
	}
	_, found := slices.BinarySearch(r.sequences, record.Sequence)
	return found
}

// removal is what will be on record of one of the records.
func (r *removing) removal(s eventlog.Sequence) eventlog.Removal {
	return eventlog.Removal{First: s, Last: s, Since: r.at, Until: r.at, Rules: eventlog.Rules{r.rule: 1}}
}

func (r *removing) value() []byte {
	kind := byte(removingThin)
	switch {
	case r.whole:
		kind = removingWhole
	case r.stream != "":
		kind = removingPrefix
	}
	b := appendString(appendTime([]byte{kind}, r.at), r.rule)
	if kind != removingThin {
		b = binary.AppendUvarint(appendString(b, string(r.stream)), uint64(r.through))
	}
	before := eventlog.Sequence(0)
	for _, s := range r.sequences {
		b = binary.AppendUvarint(b, uint64(s-before))
		before = s
	}
	return appendCRC(b, 0)
}

var errRemoving = errors.New("the record of the removal under way is damaged")

// removingOf returns the removal that is under way.
func removingOf(tx *bolt.Tx) (r removing, err error) {
	meta := tx.Bucket(bucketMeta)
	parse, v := parseRemoving, meta.Get(keyRemoving)
	if v == nil {
		parse, v = parseTrimmed, meta.Get(keyTrimmed)
	}
	if v == nil {
		return r, nil
	}
	body, err := checkCRC(v)
	if err == nil {
		p := parser{b: body}
		r = parse(&p)
		err = p.end()
	}
	if err != nil {
		return removing{}, fmt.Errorf("%w: %w", errRemoving, err)
	}
	return r, nil
}

func parseRemoving(p *parser) (r removing) {
	kind := p.byte()
	r.at, r.rule = parseTime(p), string(p.bytes(eventlog.MaxRule))
	switch kind {
	case removingThin:
		before := eventlog.Sequence(0)
		for len(p.b) > 0 {
			step := eventlog.Sequence(p.uvarint(math.MaxInt64))
			if step == 0 {
				p.fail(errOrder)
			}
			before += step
			r.sequences = append(r.sequences, before)
		}
	case removingPrefix, removingWhole:
		r.stream = eventlog.Stream(p.bytes(eventlog.MaxName))
		r.through = eventlog.Version(p.uvarint(math.MaxUint64))
		r.whole = kind == removingWhole
	default:
		p.fail(fmt.Errorf("removal of kind %d is not known", kind))
	}
	return r
}

// parseTrimmed parses a trim of the second format.
func parseTrimmed(p *parser) (r removing) {
	r.rule = eventlog.UnknownRule
	r.stream = eventlog.Stream(p.bytes(eventlog.MaxName))
	r.through = eventlog.Version(p.uvarint(math.MaxUint64))
	r.whole = p.byte() == 1
	return r
}

// removePiece removes a piece of what was trimmed or thinned out; done when there is nothing
// under way.
func removePiece(tx *bolt.Tx) (done bool, err error) {
	under, err := removingOf(tx)
	if err != nil || under.none() {
		return true, nil // a damaged one does not say what to remove
	}
	piece := removedPiece{tx: tx, under: &under}
	if under.stream != "" {
		done, err = piece.trim()
	} else {
		done, err = piece.thin()
	}
	if err == nil {
		err = piece.record()
	}
	meta := tx.Bucket(bucketMeta)
	switch {
	case err != nil:
		return false, err
	case done:
		return false, errors.Join(meta.Delete(keyRemoving), meta.Delete(keyTrimmed))
	default:
		return false, meta.Put(keyRemoving, under.value())
	}
}

// removeAll removes all of what fits in one piece.
func removeAll(tx *bolt.Tx, under removing) error {
	piece := removedPiece{tx: tx, under: &under}
	remove := piece.thin
	if under.stream != "" {
		remove = piece.trim
	}
	for {
		switch done, err := remove(); {
		case err != nil:
			return err
		case done:
			return piece.record()
		}
	}
}

// removedPiece is what one transaction removes.
type removedPiece struct {
	tx      *bolt.Tx
	under   *removing
	removed []eventlog.Record // without payloads
	bytes   int64
}

// thin removes the first of the sequences. A record that has become unreadable stays: it is
// damage.
func (p *removedPiece) thin() (done bool, err error) {
	n := 0
	for ; n < min(len(p.under.sequences), pieceEntries) && p.bytes < pieceBytes; n++ {
		if err := p.remove(p.under.sequences[n], func(*eventlog.Record) bool { return true }); err != nil {
			return false, err
		}
	}
	for i := range p.removed {
		r := &p.removed[i]
		if err := p.tx.Bucket(bucketIndex).Delete(indexKey(r.Stream, r.Version)); err != nil {
			return false, err
		}
	}
	p.under.sequences = p.under.sequences[n:]
	return len(p.under.sequences) == 0, p.recordGaps()
}

// trim removes the first of the stream's versions, and then its gaps and base.
func (p *removedPiece) trim() (done bool, err error) {
	index := p.tx.Bucket(bucketIndex)
	cursor := index.Cursor()
	var keys [][]byte
	for k, _ := cursor.Seek(indexKey(p.under.stream, 0)); k != nil && len(keys) < pieceEntries; k, _ = cursor.Next() {
		s, v, ok := parseIndexKey(k)
		if !ok || s != p.under.stream || v > p.under.through {
			break
		}
		keys = append(keys, slices.Clone(k))
	}
	for _, k := range keys {
		_, version, _ := parseIndexKey(k)
		if sequence, ok := parseRecordKey(index.Get(k)); ok {
			// If a damaged index leads to another stream's record, that record stays.
			err := p.remove(sequence, func(r *eventlog.Record) bool { return r.Stream == p.under.stream && r.Version == version })
			if err != nil {
				return false, err
			}
		}
		if err := index.Delete(k); err != nil {
			return false, err
		}
	}
	if len(keys) > 0 {
		return false, nil
	}
	all := gapsOf(p.tx)
	_, keys = all.through(p.under.stream, p.under.through, pieceEntries)
	for _, k := range keys {
		if err := all.bucket.Delete(k); err != nil {
			return false, err
		}
	}
	if len(keys) == 0 && p.under.whole {
		err = p.tx.Bucket(bucketBases).Delete([]byte(p.under.stream))
	}
	return len(keys) == 0, err
}

// remove removes a record, unless it is another one than it should be. A damaged one goes if
// it was trimmed.
func (p *removedPiece) remove(s eventlog.Sequence, is func(*eventlog.Record) bool) error {
	records, key := p.tx.Bucket(bucketRecords), recordKey(s)
	v := records.Get(key)
	var decoder recordDecoder
	r, err := decodeAt(&decoder, s, v)
	switch {
	case err != nil && p.under.stream == "":
		return nil
	case err != nil:
		r = eventlog.Record{Sequence: s}
	case !is(&r):
		return nil
	}
	r.Payload = nil
	p.removed, p.bytes = append(p.removed, r), p.bytes+int64(len(v))
	if err := records.Delete(key); err != nil {
		return fmt.Errorf("remove record %d: %w", s, err)
	}
	return nil
}

// record records the holes that were made.
func (p *removedPiece) record() error {
	slices.SortFunc(p.removed, func(a, b eventlog.Record) int { return int(int64(a.Sequence) - int64(b.Sequence)) })
	all := holesOf(p.tx)
	for rest := p.removed; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Sequence == rest[n-1].Sequence+1 {
			n++
		}
		removal := p.under.removal(rest[0].Sequence)
		removal.Last, removal.Rules[p.under.rule] = rest[n-1].Sequence, uint64(n)
		if err := all.add(hole{removal}); err != nil {
			return fmt.Errorf("record the hole of %d: %w", rest[0].Sequence, err)
		}
		rest = rest[n:]
	}
	if len(p.removed) == 0 {
		return nil
	}
	return addUsage(p.tx, usage{bytes: -p.bytes, removed: eventlog.Rules{p.under.rule: uint64(len(p.removed))}})
}

// recordGaps records the gaps that were made in streams.
func (p *removedPiece) recordGaps() error {
	byStream := slices.SortedFunc(slices.Values(p.removed), func(a, b eventlog.Record) int {
		if order := strings.Compare(string(a.Stream), string(b.Stream)); order != 0 {
			return order
		}
		return int(int64(a.Version) - int64(b.Version))
	})
	all := gapsOf(p.tx)
	for rest := byStream; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Stream == rest[0].Stream && rest[n].Version == rest[n-1].Version+1 {
			n++
		}
		removal := p.under.removal(rest[0].Sequence)
		removal.Last, removal.Rules[p.under.rule] = rest[n-1].Sequence, uint64(n)
		one := gap{eventlog.GapError{Removal: removal, Stream: rest[0].Stream, From: rest[0].Version, Through: rest[n-1].Version}}
		if err := all.add(one); err != nil {
			return fmt.Errorf("record the gap of stream %q at %d: %w", rest[0].Stream, rest[0].Version, err)
		}
		rest = rest[n:]
	}
	return nil
}
