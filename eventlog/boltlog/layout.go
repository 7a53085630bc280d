package boltlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// The buckets of the file (what is in them: doc.go).
var (
	bucketMeta        = []byte("meta")
	bucketRecords     = []byte("records")
	bucketIndex       = []byte("index")
	bucketCheckpoints = []byte("checkpoints")
	bucketBases       = []byte("bases")
	bucketHoles       = []byte("holes")
	bucketGaps        = []byte("gaps")
)

// buckets are all of the present format, oldest first. formats has, for each format, how
// many of them it has. Older formats can be read, and are brought to the present one when
// they are opened for writing.
var (
	buckets = [][]byte{bucketMeta, bucketRecords, bucketIndex, bucketCheckpoints, bucketBases, bucketHoles, bucketGaps}
	formats = []int{0, 3, 6, 7}
)

// keyFormat in bucketMeta holds formatName, so that neither another program's bbolt file nor
// a later layout is taken for a log.
var keyFormat = []byte("format")

const formatName = "stele event log "

// presentFormat is the one that is written.
var presentFormat = len(formats) - 1

// formatValue is a format's value: its name and number, and since the third the CRC-32C of
// these, so that a flipped bit is not taken for a newer version.
func formatValue(format int) []byte {
	value := fmt.Append(nil, formatName, format)
	if format < 3 {
		return value
	}
	return fmt.Appendf(value, " %08x", crc32.Checksum(value, castagnoli))
}

// bucketSnapshots had, in the first format, what checkpoints have now.
var bucketSnapshots = []byte("snapshots")

// keyProbe in bucketMeta is written and deleted by the repair (repair.go).
var keyProbe = []byte("probe")

// keyJournal in bucketMeta holds the journal's pass that is under way, and its
// CRC-32C. It is missing when the journal holds nothing.
var keyJournal = []byte("journal")

// keyRemoving in bucketMeta holds the trim or thinning whose records are being removed;
// keyTrimmed held the trim in the second format.
var (
	keyRemoving = []byte("removing")
	keyTrimmed  = []byte("trimmed")
)

// keyRemoved in bucketMeta holds the last transaction that made a removal at once: whether it
// was committed can be told by it.
var keyRemoved = []byte("removed")

// keyUsage in bucketMeta holds counters (usage.go).
var keyUsage = []byte("usage")

// keyLast in bucketMeta holds what the last transaction was (lastValue): a tree
// that leads to pages of earlier days does not have its own.
var keyLast = []byte("last")

// lastValue is the value of keyLast: the transaction, and its last record.
func lastValue(tx *bolt.Tx, last eventlog.Sequence) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(tx.ID())), uint64(last))
}

// sign writes keyLast.
func sign(tx *bolt.Tx) error {
	var last eventlog.Sequence
	if k, _ := lastPair(tx.Bucket(bucketRecords).Cursor()); k != nil {
		last, _ = parseRecordKey(k) // 0 for a damaged key, and then again
	}
	return tx.Bucket(bucketMeta).Put(keyLast, lastValue(tx, last))
}

// lastPair returns the last pair of a bucket. bbolt's own search for it does not end if the
// transaction has removed all there is from several pages.
func lastPair(cursor *bolt.Cursor) (k, v []byte) {
	if k, _ := cursor.First(); k == nil {
		return nil, nil
	}
	return cursor.Last()
}

// pairBefore returns the last pair in front of a key, and moves the cursor there. A page from
// which the transaction has removed everything is no end, as it is for bbolt.
func pairBefore(cursor *bolt.Cursor, key []byte) (k, v []byte) {
	if k, _ := cursor.Seek(key); k == nil {
		return lastPair(cursor)
	}
	if k, v = cursor.Prev(); k != nil {
		return k, v
	}
	if first, _ := cursor.First(); bytes.Compare(first, key) >= 0 {
		return nil, nil
	}
	for cursor.Seek(key); k == nil; {
		k, v = cursor.Prev()
	}
	return k, v
}

const sequenceSize = 8

// recordKey is the key of a record: big endian, so that bbolt's order is the
// log's and every append goes to the end of the tree.
func recordKey(s eventlog.Sequence) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(s))
}

func parseRecordKey(k []byte) (eventlog.Sequence, bool) {
	if len(k) != sequenceSize {
		return 0, false
	}
	s := eventlog.Sequence(binary.BigEndian.Uint64(k))
	return s, s > 0
}

// indexKey is the key under which the sequence of a stream's version is
// found. The zero byte, which no stream's name contains, keeps "a" and its
// versions apart from "ab" and its.
func indexKey(s eventlog.Stream, v eventlog.Version) []byte {
	k := make([]byte, 0, len(s)+1+sequenceSize)
	return binary.BigEndian.AppendUint64(append(append(k, s...), 0), uint64(v))
}

func parseIndexKey(k []byte) (eventlog.Stream, eventlog.Version, bool) {
	cut := len(k) - sequenceSize - 1
	if cut < 1 || k[cut] != 0 || bytes.IndexByte(k[:cut], 0) >= 0 {
		return "", 0, false
	}
	v := eventlog.Version(binary.BigEndian.Uint64(k[cut+1:]))
	return eventlog.Stream(k[:cut]), v, v > 0
}
