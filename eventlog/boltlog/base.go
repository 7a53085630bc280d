package boltlog

import (
	"encoding/binary"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// Formats of a stream's base, its first byte. The first has no Removed.
const (
	firstBaseFormat = 0x01
	baseFormat      = 0x02
)

func encodeBase(s eventlog.Stream, b eventlog.Base) []byte {
	out := appendString([]byte{baseFormat}, string(s))
	for _, n := range []uint64{uint64(b.Version), uint64(b.Sequence), uint64(b.Schema)} {
		out = binary.AppendUvarint(out, n)
	}
	out = appendString(out, string(b.State))
	out = binary.AppendUvarint(out, uint64(b.Removed.First))
	return appendCRC(appendRemoval(out, b.Removed), 0)
}

// decodeBase copies, and trusts nothing.
func decodeBase(s eventlog.Stream, v []byte) (b eventlog.Base, err error) {
	body, err := checkCRC(v)
	if err != nil {
		return b, err
	}
	p := parser{b: body}
	format := p.byte()
	if format != baseFormat && format != firstBaseFormat {
		return b, fmt.Errorf("base format %d is not known", format)
	}
	written := eventlog.Stream(p.bytes(eventlog.MaxName))
	b.Version = eventlog.Version(p.uvarint(math.MaxUint64))
	b.Sequence = eventlog.Sequence(p.uvarint(math.MaxUint64))
	b.Schema = uint32(p.uvarint(math.MaxUint32))
	state := p.bytes(eventlog.MaxValue)
	b.Removed.Last = b.Sequence
	if format == firstBaseFormat {
		b.Removed.Rules = eventlog.Rules{eventlog.UnknownRule: uint64(b.Version)}
	} else {
		b.Removed.First = eventlog.Sequence(p.uvarint(math.MaxUint64))
		parseRemoval(&p, &b.Removed)
	}
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

// streamInfo describes a stream; its version is 0 if it does not exist.
func streamInfo(tx *bolt.Tx, s eventlog.Stream) (info eventlog.StreamInfo, err error) {
	info.Stream = s
	under, _ := removingOf(tx) // Verify reports the damage
	if under.drops(s) {
		return info, nil
	}
	if info.Base, err = baseOf(tx, s); err != nil {
		return info, err
	}
	head, _ := streamHead(tx, s)
	info.Version = max(head, info.Base.Version)
	return info, nil
}
