package boltlog

import (
	"sort"
	"sync"

	"github.com/stele-runtime/stele/eventlog"
)

// recent holds the records that are in the journal but not yet in the bbolt file. Only
// the writer changes it, and removes nothing before it is in the bbolt file: a reader
// that looks here first, and there afterwards, misses nothing.
type recent struct {
	mu      sync.Mutex
	records []eventlog.Record // ascending; only ever appended to
	heads   map[eventlog.Stream]eventlog.Version
	damage  error // why the journal could not be read
}

// add puts records at the end.
func (r *recent) add(records []eventlog.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.append(records)
}

// append is add, with the lock held.
func (r *recent) append(records []eventlog.Record) {
	r.records = append(r.records, records...)
	if r.heads == nil {
		r.heads = make(map[eventlog.Stream]eventlog.Version)
	}
	for i := range records {
		r.heads[records[i].Stream] = records[i].Version
	}
}

// set replaces everything at once.
func (r *recent) set(records []eventlog.Record, damage error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records, r.heads, r.damage = nil, nil, damage
	r.append(records)
}

// clear removes everything: it is in the bbolt file now.
func (r *recent) clear() { r.set(nil, nil) }

// problem is why records of the journal may be missing, or nil.
func (r *recent) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damage
}

// all returns the records, which must not be changed.
func (r *recent) all() []eventlog.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[:len(r.records):len(r.records)]
}

// size is about how many bytes the records have.
func (r *recent) size() (n int) {
	for _, record := range r.all() {
		n += recordOverhead(&record) + len(record.Payload)
	}
	return n
}

// from returns the records from a sequence on.
func (r *recent) from(s eventlog.Sequence) []eventlog.Record {
	all := r.all()
	return all[sort.Search(len(all), func(i int) bool { return all[i].Sequence >= s }):]
}

// head is the version of a stream, 0 if none of its records is here.
func (r *recent) head(s eventlog.Stream) eventlog.Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heads[s]
}

// stream returns the records of one stream, from a version on.
func (r *recent) stream(s eventlog.Stream, from eventlog.Version) (records []eventlog.Record) {
	if r.head(s) < from {
		return nil
	}
	for _, record := range r.all() {
		if record.Stream == s && record.Version >= from {
			records = append(records, record)
		}
	}
	return records
}
