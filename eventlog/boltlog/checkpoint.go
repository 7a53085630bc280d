package boltlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// headFormat is the first byte of a checkpoint's head.
const headFormat = 0x01

// area is a set of a checkpoint's pairs. A change that is too large for one
// transaction fills a new area, which is not visible until the head names it.
type area uint64

const areaSize = 8

// head describes a checkpoint without its pairs.
type head struct {
	eventlog.Checkpoint
	edition uint64 // differs after each change
	base    area   // 0: there is no checkpoint yet
	overlay area   // pairs that hide those of base; 0: none
	loose   area   // being filled or removed; 0: none
	tally          // of the visible pairs
}

// tally shows whether pairs are missing or stale.
type tally struct {
	pairs uint64
	sum   uint64 // of the pairs' CRCs
}

func (t *tally) add(crc uint32)    { t.pairs, t.sum = t.pairs+1, t.sum+uint64(crc) }
func (t *tally) remove(crc uint32) { t.pairs, t.sum = t.pairs-1, t.sum-uint64(crc) }

// headKey is the key of a checkpoint's head, and the beginning of all its keys.
func headKey(name string) []byte { return append([]byte(name), 0) }

// prefix is the beginning of the keys of an area.
func (a area) prefix(name string) []byte {
	return binary.BigEndian.AppendUint64(headKey(name), uint64(a))
}

// parseCheckpointKey takes a key apart. For a head, area is 0 and the key empty.
func parseCheckpointKey(k []byte) (name string, a area, key []byte, ok bool) {
	cut := bytes.IndexByte(k, 0)
	if cut < 1 {
		return "", 0, nil, false
	}
	name, rest := string(k[:cut]), k[cut+1:]
	switch {
	case len(rest) == 0:
		return name, 0, nil, true
	case len(rest) <= areaSize:
		return "", 0, nil, false
	}
	a = area(binary.BigEndian.Uint64(rest))
	return name, a, rest[areaSize:], a > 0
}

func encodeHead(name string, h head) []byte {
	b := appendString([]byte{headFormat}, name)
	for _, n := range []uint64{uint64(h.Sequence), uint64(h.Schema), h.edition, uint64(h.base), uint64(h.overlay), uint64(h.loose), h.pairs} {
		b = binary.AppendUvarint(b, n)
	}
	return appendCRC(binary.BigEndian.AppendUint64(b, h.sum), 0)
}

// decodeHead trusts nothing.
func decodeHead(name string, b []byte) (h head, err error) {
	body, err := checkCRC(b)
	if err != nil {
		return h, err
	}
	p := parser{b: body}
	if format := p.byte(); format != headFormat {
		return h, fmt.Errorf("checkpoint format %d is not known", format)
	}
	written := string(p.bytes(eventlog.MaxName))
	h.Sequence = eventlog.Sequence(p.uvarint(math.MaxUint64))
	h.Schema = uint32(p.uvarint(math.MaxUint32))
	h.edition = p.uvarint(math.MaxUint64)
	h.base, h.overlay, h.loose = area(p.uvarint(math.MaxUint64)), area(p.uvarint(math.MaxUint64)), area(p.uvarint(math.MaxUint64))
	h.pairs, h.sum = p.uvarint(math.MaxUint64), p.uint64()
	if err := p.end(); err != nil {
		return head{}, err
	}
	if written != name {
		return head{}, fmt.Errorf("it says that it is checkpoint %q", written)
	}
	return h, nil
}

// Kinds of entries.
const (
	entryValue = 0x01 // the key has this value
	entryGone  = 0x02 // the key does not exist, even if base has it
)

// entry is what is stored under a key of an area.
type entry struct {
	key   string
	value []byte // encoded
}

func (e *entry) gone() bool  { return e.value[0] == entryGone }
func (e *entry) crc() uint32 { return binary.BigEndian.Uint32(e.value[len(e.value)-crcSize:]) }
func (e *entry) size() int   { return len(e.key) + len(e.value) }

func encodeEntry(name, key string, kind byte, value []byte) entry {
	b := make([]byte, 0, 1+len(value)+crcSize)
	b = append(append(b, kind), value...)
	return entry{key, binary.BigEndian.AppendUint32(b, entrySum(name, key, b))}
}

// entrySum is the CRC-32C of an entry and the names under which it is stored: nothing else
// reveals a damaged key.
func entrySum(name, key string, b []byte) uint32 {
	sum := crc32.Checksum(headKey(name), castagnoli)
	sum = crc32.Update(sum, castagnoli, headKey(key))
	return crc32.Update(sum, castagnoli, b)
}

// checkEntry checks a stored entry. The result aliases the bytes.
func checkEntry(name string, key, b []byte) (entry, error) {
	e := entry{string(key), b}
	if len(b) < 1+crcSize {
		return e, fmt.Errorf("key %q: only %d bytes", key, len(b))
	}
	if got, want := entrySum(name, e.key, b[:len(b)-crcSize]), e.crc(); got != want {
		return e, fmt.Errorf("key %q: CRC-32C is %08x, but %08x was written", key, got, want)
	}
	if kind := b[0]; kind != entryValue && kind != entryGone {
		return e, fmt.Errorf("key %q: it is of kind %d", key, kind)
	}
	return e, nil
}

// checkpoint is one that a transaction sees.
type checkpoint struct {
	bucket *bolt.Bucket
	name   string
	head
}

// checkpointOf returns the checkpoint of a name. One that does not exist has a head of
// zeros. A damaged head is an error, and the checkpoint can be replaced.
func checkpointOf(tx *bolt.Tx, name string) (c checkpoint, err error) {
	c = checkpoint{bucket: tx.Bucket(bucketCheckpoints), name: name}
	if c.bucket == nil {
		return c, nil // of a log of the first format
	}
	value := c.bucket.Get(headKey(name))
	if value == nil {
		return c, nil
	}
	if c.head, err = decodeHead(name, value); err != nil {
		return c, c.damage(err)
	}
	return c, nil
}

func (c *checkpoint) damage(problem error) error {
	return &eventlog.DamageError{Checkpoint: c.name, Problem: problem.Error()}
}

func (c *checkpoint) exists() bool { return c.base != 0 }

// areaCursor walks the entries of one area.
type areaCursor struct {
	cursor     *bolt.Cursor
	prefix     []byte
	key, value []byte // key is nil at the end
}

// seek returns a cursor at the first key behind one.
func (c *checkpoint) seek(a area, behind []byte) *areaCursor {
	at := &areaCursor{prefix: a.prefix(c.name)}
	if a == 0 {
		return at
	}
	at.cursor = c.bucket.Cursor()
	at.take(at.cursor.Seek(append(bytes.Clone(at.prefix), behind...)))
	if len(behind) > 0 && bytes.Equal(at.key, behind) {
		at.next()
	}
	return at
}

func (a *areaCursor) next() { a.take(a.cursor.Next()) }

func (a *areaCursor) take(k, v []byte) {
	a.key, a.value = nil, nil
	if len(k) > len(a.prefix) && bytes.HasPrefix(k, a.prefix) {
		a.key, a.value = k[len(a.prefix):], v
	}
}

// walk calls fn for the pairs behind a key, until it returns false. A damaged one
// is an error.
func (c *checkpoint) walk(behind []byte, fn func(e entry) bool) error {
	base, overlay := c.seek(c.base, behind), c.seek(c.overlay, behind)
	for base.key != nil || overlay.key != nil {
		from := overlay
		switch order := bytes.Compare(base.key, overlay.key); {
		case overlay.key == nil, base.key != nil && order < 0:
			from = base
		case order == 0:
			base.next() // hidden
		}
		e, err := checkEntry(c.name, from.key, from.value)
		if err != nil {
			return c.damage(err)
		}
		if !e.gone() && !fn(e) {
			return nil
		}
		from.next()
	}
	return nil
}

// find returns the entry of a key, if the checkpoint has it.
func (c *checkpoint) find(key string) (e entry, found bool, err error) {
	for _, a := range []area{c.overlay, c.base} {
		if a == 0 {
			continue
		}
		value := c.bucket.Get(append(a.prefix(c.name), key...))
		if value == nil {
			continue
		}
		if e, err = checkEntry(c.name, []byte(key), value); err != nil {
			return e, false, c.damage(err)
		}
		return e, !e.gone(), nil
	}
	return e, false, nil
}

// check compares the tally of all pairs with the head's.
func (c *checkpoint) check(seen tally) error {
	if seen != c.tally {
		return c.damage(fmt.Errorf("it has %d pairs (sum %x), but %d (sum %x) were saved", seen.pairs, seen.sum, c.pairs, c.sum))
	}
	return nil
}

// LoadCheckpoint implements eventlog.Reader.
func (r *Reader) LoadCheckpoint(ctx context.Context, name string) (eventlog.Saved, bool, error) {
	if err := eventlog.CheckCheckpointName(name); err != nil {
		return eventlog.Saved{}, false, err
	}
	var c checkpoint
	err := r.view(ctx, func(tx *bolt.Tx) (err error) {
		c, err = checkpointOf(tx, name)
		return err
	})
	if last := r.Last(); err == nil && c.Sequence > last {
		err = c.damage(fmt.Errorf("it is of record %d, but the last one is %d", c.Sequence, last))
	}
	if err != nil {
		return eventlog.Saved{}, false, fmt.Errorf("load checkpoint %q: %w", name, err)
	}
	if !c.exists() {
		return eventlog.Saved{}, false, nil
	}
	return eventlog.Saved{Checkpoint: c.Checkpoint, Pairs: r.pairs(ctx, name, c.edition)}, true, nil
}

// pairs yields the pairs of one edition of a checkpoint. It reads in chunks, so that
// a slow consumer keeps no transaction open.
func (r *Reader) pairs(ctx context.Context, name string, edition uint64) iter.Seq2[eventlog.Pair, error] {
	return func(yield func(eventlog.Pair, error) bool) {
		var seen tally
		var behind []byte
		for ended := false; !ended; {
			var chunk []eventlog.Pair
			err := r.view(ctx, func(tx *bolt.Tx) error {
				c, err := checkpointOf(tx, name)
				if err == nil && c.edition != edition {
					err = eventlog.ErrStale
				}
				if err == nil {
					chunk, err = c.chunk(behind, &seen)
				}
				if ended = err == nil && len(chunk) == 0; ended {
					err = c.check(seen)
				}
				return err
			})
			if err != nil {
				yield(eventlog.Pair{}, fmt.Errorf("read checkpoint %q: %w", name, err))
				return
			}
			for _, pair := range chunk {
				if !yield(pair, nil) {
					return
				}
				behind = []byte(pair.Key)
			}
		}
	}
}

// chunk copies pairs behind a key; none at the end.
func (c *checkpoint) chunk(behind []byte, seen *tally) (pairs []eventlog.Pair, err error) {
	size := 0
	err = c.walk(behind, func(e entry) bool {
		value := e.value[1 : len(e.value)-crcSize]
		pairs = append(pairs, eventlog.Pair{Key: e.key, Value: append([]byte{}, value...)})
		seen.add(e.crc())
		size += e.size()
		return size < chunkBytes
	})
	return pairs, err
}

// checkpoints checks all checkpoints, and that each entry belongs to one.
func (v *verifier) checkpoints() error {
	if v.tx.Bucket(bucketCheckpoints) == nil {
		return nil
	}
	var c checkpoint
	strayed := false // an entry of c that belongs nowhere was reported
	return v.each(bucketCheckpoints, func(k, value []byte) {
		name, a, _, ok := parseCheckpointKey(k)
		if !ok {
			v.damage(eventlog.DamageError{Problem: fmt.Sprintf("a checkpoint has the key %x", k)})
			return
		}
		if c.name != name {
			c, strayed = checkpoint{name: name}, false
		}
		switch {
		case a == 0:
			v.checkpoint(&c)
		case a != c.base && a != c.overlay && a != c.loose && !strayed:
			strayed = true
			v.damage(eventlog.DamageError{Checkpoint: name, Problem: fmt.Sprintf("there are pairs of area %d, which its head does not name", a)})
		}
	})
}

// checkpoint checks one checkpoint.
func (v *verifier) checkpoint(c *checkpoint) {
	found, err := checkpointOf(v.tx, c.name)
	*c = found
	var seen tally
	if err == nil && c.Sequence > v.end {
		err = c.damage(fmt.Errorf("it is of record %d, beyond the last one", c.Sequence))
	}
	if err == nil {
		err = c.walk(nil, func(e entry) bool { seen.add(e.crc()); return true })
	}
	if err == nil {
		err = c.check(seen)
	}
	if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
		v.damage(*damage)
	} else if c.exists() {
		v.report.Checkpoints++
	}
}
