package boltlog

import (
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// request is an append or another change that waits for the writer.
type request struct {
	append  eventlog.Append
	arrived time.Time
	change  change // instead of append

	done func([]eventlog.Record, error)

	owner   atomic.Int32      // who decides about it: see the owned constants
	records []eventlog.Record // the answer, if err is nil
	err     error
}

const (
	ownedByQueue  = iota // it can be withdrawn
	ownedByWriter        // it is being written
	withdrawn            // no caller waits for it any more
)

// withdraw takes the request back, unless the writer has begun with it.
func (r *request) withdraw() bool { return r.owner.CompareAndSwap(ownedByQueue, withdrawn) }

// take makes the request the writer's, if it wasn't withdrawn.
func (r *request) take() bool { return r.owner.CompareAndSwap(ownedByQueue, ownedByWriter) }

func (r *request) check() error {
	if r.change != nil {
		return nil // already checked
	}
	return r.append.Check()
}

// size is about how many bytes of memory the request holds.
func (r *request) size() int {
	const overhead = 256
	size := overhead
	if r.change != nil {
		size += r.change.size()
	}
	for i := range r.append.Entries {
		size += overhead + len(r.append.Entries[i].Payload)
	}
	return size
}

// batch is what becomes durable together.
type batch struct {
	requests []*request
	next     eventlog.Sequence // for the next record

	// The versions of the streams that the batch appends to.
	heads map[eventlog.Stream]eventlog.Version

	lasting bool              // something of it is not volatile
	records []eventlog.Record // of all requests
	values  [][]byte          // the records, encoded
	changes []*request        // those that are not refused

	// doubt is why the batch may or may not be in the journal.
	doubt error
}

// empty says whether all requests were refused.
func (b *batch) empty() bool { return len(b.records) == 0 && len(b.changes) == 0 }

// proof is something that the batch puts into the file: it shows afterwards whether the
// batch is there.
func (b *batch) proof() put {
	if n := len(b.records); n > 0 {
		return put{bucketRecords, recordKey(b.records[n-1].Sequence), b.values[n-1]}
	}
	return b.changes[0].change.(committed).proof()
}

// put is a value that is put under a key of a bucket.
type put struct {
	bucket, key, value []byte
}

func (p put) into(tx *bolt.Tx) error {
	b := tx.Bucket(p.bucket)
	if string(p.bucket) == string(bucketRecords) {
		b.FillPercent = recordsFill
	}
	return b.Put(p.key, p.value)
}

// recordsFill is how full bbolt makes pages of records when it splits them.
// Records are only appended, so free space in between is of no use.
const recordsFill = 0.9

// fail fails all requests that have no error yet.
func (b *batch) fail(err error) {
	for _, r := range b.requests {
		if r.err == nil {
			r.records, r.err = nil, err
		}
	}
}

// answer reports the outcomes in the order of the requests.
func (b *batch) answer() {
	for _, r := range b.requests {
		r.done(r.records, r.err)
	}
}

// stage numbers and encodes the records of a request, whose stream is at version head,
// and stores the outcome in the request.
func (b *batch) stage(r *request, head eventlog.Version, stamp stamp) {
	stream := r.append.Stream
	if head != r.append.Expected {
		r.err = &eventlog.WrongVersionError{Stream: stream, Expected: r.append.Expected, Actual: head}
		return
	}
	first := len(b.records)
	for _, entry := range r.append.Entries {
		head++
		record := eventlog.Record{
			Sequence: b.next, Stream: stream, Version: head,
			Time: stamp.wall, SinceBoot: stamp.sinceBoot, BootID: stamp.bootID,
			Entry: entry,
		}
		value := appendRecord(make([]byte, 0, recordOverhead(&record)+len(record.Payload)), &record)
		// The caller may reuse its buffer, so the record keeps the encoded copy.
		end := len(value) - crcSize
		record.Payload = value[end-len(record.Payload) : end : end]
		b.records, b.values = append(b.records, record), append(b.values, value)
		b.next++
	}
	b.heads[stream] = head
	b.lasting = b.lasting || !r.append.Volatile
	r.records = b.records[first:len(b.records):len(b.records)]
}

func (b *batch) stageChange(r *request) {
	if r.err = r.change.check(b.next - 1); r.err == nil {
		b.changes, b.lasting = append(b.changes, r), true
	}
}

// into puts the batch into a transaction. The error is bbolt's, and then the
// transaction must be given up; the culprit is the request that led to it.
func (b *batch) into(tx *bolt.Tx) (culprit *request, err error) {
	values := b.values
	for _, r := range b.requests {
		if r.err != nil {
			continue
		}
		err := guard(func() error {
			if r.change != nil {
				return r.change.(committed).into(tx)
			}
			for i := range r.records {
				if err := putRecord(tx, &r.records[i], values[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return r, err
		}
		values = values[len(r.records):]
	}
	var more usage
	for _, value := range b.values {
		more.bytes += int64(len(value))
	}
	return nil, addUsage(tx, more)
}

// putRecord stores an encoded record and its place in the index.
func putRecord(tx *bolt.Tx, r *eventlog.Record, value []byte) error {
	key := recordKey(r.Sequence)
	if err := (put{bucketRecords, key, value}).into(tx); err != nil {
		return fmt.Errorf("put record %d: %w", r.Sequence, err)
	}
	if err := (put{bucketIndex, indexKey(r.Stream, r.Version), key}).into(tx); err != nil {
		return fmt.Errorf("put record %d into the index: %w", r.Sequence, err)
	}
	return nil
}
