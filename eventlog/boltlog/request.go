package boltlog

import (
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// request is an append, or a snapshot to be saved, on its way to the writer.
type request struct {
	append   eventlog.Append
	arrived  time.Time
	snapshot *eventlog.Snapshot // instead of append
	name     string             // of the snapshot

	done func([]eventlog.Record, error)

	owner   atomic.Int32      // who decides about it: see the owned constants
	records []eventlog.Record // the answer, if err is nil
	err     error
}

const (
	ownedByQueue  = iota // it can be withdrawn
	ownedByWriter        // it is being written
	withdrawn            // nobody waits for it any more
)

// withdraw takes the request back, if the writer hasn't begun with it.
func (r *request) withdraw() bool { return r.owner.CompareAndSwap(ownedByQueue, withdrawn) }

// take makes the request the writer's, if it wasn't withdrawn.
func (r *request) take() bool { return r.owner.CompareAndSwap(ownedByQueue, ownedByWriter) }

func (r *request) check() error {
	if r.snapshot != nil {
		return r.snapshot.Check(r.name)
	}
	return r.append.Check()
}

// size is how many bytes the request keeps in memory, about.
func (r *request) size() int {
	const overhead = 256
	size := overhead
	if r.snapshot != nil {
		size += len(r.snapshot.Payload)
	}
	for i := range r.append.Entries {
		size += overhead + len(r.append.Entries[i].Payload)
	}
	return size
}

// batch is what goes into one transaction.
type batch struct {
	requests []*request
	next     eventlog.Sequence // for the next record

	// What the transaction does to the streams that it touches.
	heads map[eventlog.Stream]eventlog.Version

	// proof is something that the transaction puts into the file: it tells
	// afterwards whether the transaction is there. A record is a better proof
	// than a snapshot, since an equal snapshot may have been there before.
	proof *put
}

// put is a value that is put under a key of a bucket.
type put struct {
	bucket, key, value []byte
}

func (p *put) into(tx *bolt.Tx) error {
	b := tx.Bucket(p.bucket)
	if string(p.bucket) == string(bucketRecords) {
		b.FillPercent = recordsFill
	}
	return b.Put(p.key, p.value)
}

// recordsFill is how full bbolt makes pages of records when it splits them.
// Records only ever come at the end, so nothing is gained by room in between.
const recordsFill = 0.9

// fail gives all requests that have no error yet this one.
func (b *batch) fail(err error) {
	for _, r := range b.requests {
		if r.err == nil {
			r.records, r.err = nil, err
		}
	}
}

// answer tells the outcomes, in the order in which the requests came.
func (b *batch) answer() {
	for _, r := range b.requests {
		r.done(r.records, r.err)
	}
}

// stage puts a request into the transaction. An error is either the answer to
// the request, and then the transaction is as it was; or bbolt's, and then it
// must be given up.
func (b *batch) stage(tx *bolt.Tx, r *request, stamp stamp) error {
	if r.snapshot != nil {
		return b.stageSnapshot(tx, r)
	}
	stream := r.append.Stream
	head, known := b.heads[stream]
	if !known {
		head, _ = streamHead(tx, stream)
	}
	if head != r.append.Expected {
		r.err = &eventlog.WrongVersionError{Stream: stream, Expected: r.append.Expected, Actual: head}
		return nil
	}
	records := make([]eventlog.Record, len(r.append.Entries))
	for i, entry := range r.append.Entries {
		head++
		record := &records[i]
		*record = eventlog.Record{
			Sequence: b.next, Stream: stream, Version: head,
			Time: stamp.wall, SinceBoot: stamp.sinceBoot, BootID: stamp.bootID,
			Entry: entry,
		}
		if err := b.stageRecord(tx, record); err != nil {
			return err
		}
		b.next++
	}
	b.heads[stream] = head
	r.records = records
	return nil
}

func (b *batch) stageRecord(tx *bolt.Tx, r *eventlog.Record) error {
	value := appendRecord(make([]byte, 0, recordOverhead(r)+len(r.Payload)), r)
	// The caller may use its buffer again, so the record keeps our copy.
	end := len(value) - crcSize
	r.Payload = value[end-len(r.Payload) : end : end]

	key := recordKey(r.Sequence)
	b.proof = &put{bucketRecords, key, value}
	if err := b.proof.into(tx); err != nil {
		return fmt.Errorf("put record %d: %w", r.Sequence, err)
	}
	index := put{bucketIndex, indexKey(r.Stream, r.Version), key}
	if err := index.into(tx); err != nil {
		return fmt.Errorf("put record %d into the index: %w", r.Sequence, err)
	}
	return nil
}

func (b *batch) stageSnapshot(tx *bolt.Tx, r *request) error {
	if last := b.next - 1; r.snapshot.Sequence > last {
		r.err = fmt.Errorf("%w: it is of record %d, but the last one is %d", eventlog.ErrInvalid, r.snapshot.Sequence, last)
		return nil
	}
	p := put{bucketSnapshots, []byte(r.name), encodeSnapshot(r.name, *r.snapshot)}
	if b.proof == nil {
		b.proof = &p
	}
	return p.into(tx)
}
