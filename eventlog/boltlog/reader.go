package boltlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/internal/tail"
)

// Reader is the half of the log that reads, and all of one that was opened
// with OpenReadOnly.
type Reader struct {
	store  *store
	recent recent
	tail   tail.Tail
}

var _ eventlog.Reader = (*Reader)(nil)

// readOnlyLockWait is how long OpenReadOnly waits for a daemon to release the lock.
const readOnlyLockWait = 2 * time.Second

// OpenReadOnly opens the log of a daemon that does not run. It changes
// nothing, and fails with ErrLocked while a daemon has the log open, and with
// ErrCorrupt, naming pages, if the file's structure is damaged.
func OpenReadOnly(path string) (*Reader, error) {
	r := &Reader{}
	_, err := r.open(opener{path: path, readOnly: true, lockWait: readOnlyLockWait, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// found is what the files contain.
type found struct {
	pass passID // of the journal; zero if none is under way
	next int64  // where its next frame goes
	// ahead: acknowledged records are in memory only, because the disk has failed.
	ahead bool
}

// open opens the files.
func (r *Reader) open(o opener) (f found, err error) {
	if r.store, err = newStore(o); err != nil {
		return f, err
	}
	if f, err = r.recall(); err != nil {
		_ = r.store.close() // it was only read
		return f, fmt.Errorf("open event log %s: %w", o.path, err)
	}
	return f, nil
}

// recall finds out what the files contain, and publishes it to readers.
func (r *Reader) recall() (f found, err error) {
	last, err := r.store.last()
	if err != nil {
		return f, err
	}
	o := r.store.opener
	var damage error
	err = r.store.view(context.Background(), false, func(tx *bolt.Tx) error {
		f.pass, damage = parsePass(tx.Bucket(bucketMeta).Get(keyJournal))
		return nil
	})
	if err != nil {
		return f, err
	}
	var journal recalled
	if f.pass != (passID{}) {
		journal, err = recall(journalPath(o.path), f.pass, last)
		f.next = journal.next
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		damage = errors.New("the journal is missing, and with it what came after the last record")
	case err != nil:
		return f, fmt.Errorf("read the journal: %w", err)
	}
	// Acknowledged records count even if the disk has lost them.
	records, reached := r.recent.from(last+1), last
	if n := len(records); n > 0 {
		reached = records[n-1].Sequence
	}
	f.ahead = reached > max(last, journal.last())
	for _, record := range journal.records {
		if record.Sequence > reached {
			records, reached = append(records, record), record.Sequence
		}
	}
	if journal.dropped > 0 {
		o.log.Warn("event log: its end had not reached the disk when the node lost power",
			"path", o.path, "last", uint64(reached), "found behind", journal.dropped)
	}
	if damage != nil {
		f.pass, f.next = passID{}, 0
		o.log.Error("event log: records may be missing", "path", o.path, "last", uint64(reached), "cause", damage)
	}
	if known := r.tail.Last(); reached < known {
		return f, fmt.Errorf("%w: it ends with record %d, but %d was durable", eventlog.ErrCorrupt, reached, known)
	}
	r.recent.set(records, damage)
	r.tail.Advance(reached)
	return f, nil
}

// last returns the newest sequence in the bbolt file, of a record or a hole. Sequences have no
// gaps but holes, so any undamaged record's sequence and the number of keys after it are
// enough, even if those keys are damaged.
func (s *store) last() (last eventlog.Sequence, err error) {
	var decoder recordDecoder
	err = s.view(context.Background(), false, func(tx *bolt.Tx) error {
		behind, holes := 0, holesOf(tx)
		cursor := tx.Bucket(bucketRecords).Cursor()
		for k, v := cursor.Last(); k != nil; k, v = cursor.Prev() {
			if record, err := decoder.decode(v); err == nil {
				last = record.Sequence
				break
			}
			behind++
		}
		for range behind {
			last = holes.behind(last + 1)
		}
		last = holes.behind(last+1) - 1
		return nil
	})
	return last, err
}

// Last implements eventlog.Reader.
func (r *Reader) Last() eventlog.Sequence { return r.tail.Last() }

// Close implements eventlog.Reader.
func (r *Reader) Close() error {
	r.tail.End(eventlog.ErrClosed)
	return r.store.close()
}

// A chunk is what is read in one transaction, so that neither a slow consumer
// nor a long log keeps one open.
const (
	chunkRecords = 512
	chunkBytes   = 1 << 20
)

// item is a record, or the damage or the removal that was found in its place.
type item struct {
	record eventlog.Record
	damage *eventlog.DamageError
	gap    *eventlog.GapError
}

// chunk collects items until it is full.
type chunk struct {
	items []item
	bytes int
}

// reset empties it for the next transaction, and keeps its memory.
func (c *chunk) reset() { c.items, c.bytes = c.items[:0], 0 }

func (c *chunk) full() bool { return len(c.items) >= chunkRecords || c.bytes >= chunkBytes }

func (c *chunk) add(r eventlog.Record, size int) {
	c.items = append(c.items, item{record: r})
	c.bytes += size
}

func (c *chunk) damage(d eventlog.DamageError) { c.items = append(c.items, item{damage: &d}) }

// gap adds a run of removed records. Neighbouring runs are one.
func (c *chunk) gap(g *eventlog.GapError) {
	if n := len(c.items); n > 0 && c.items[n-1].gap != nil {
		g = c.items[n-1].gap.Join(g)
		c.items = c.items[:n-1]
	}
	c.items = append(c.items, item{gap: g})
}

// hidden adds a record that is removed, but still stored.
func (c *chunk) hidden(under *removing, r *eventlog.Record, ofStream bool, size int) {
	g := &eventlog.GapError{Removal: under.removal(r.Sequence)}
	if ofStream {
		g.Stream, g.From, g.Through = r.Stream, r.Version, r.Version
	}
	c.gap(g)
	c.bytes += size
}

// passing passes items on to a consumer. It holds back a run of removed records until its end
// is known.
type passing struct {
	yield func(eventlog.Record, error) bool
	gap   *eventlog.GapError
}

// pass passes a chunk on, and reports whether the consumer wants more.
func (p *passing) pass(c chunk) bool {
	for i := range c.items {
		it := &c.items[i]
		switch {
		case it.gap != nil && p.gap != nil:
			p.gap = p.gap.Join(it.gap)
		case it.gap != nil:
			p.gap = it.gap
		case !p.flush():
			return false
		case it.damage != nil && !p.yield(eventlog.Record{}, it.damage), it.damage == nil && !p.yield(it.record, nil):
			return false
		}
	}
	return true
}

// flush passes on what was held back.
func (p *passing) flush() bool {
	if p.gap == nil {
		return true
	}
	gap := p.gap
	p.gap = nil
	return p.yield(eventlog.Record{}, gap)
}

// Read implements eventlog.Reader.
func (r *Reader) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		r.read(ctx, span{from: max(from, 1), through: r.Last()}, yield)
	}
}

// subscribe is Read that continues with every record that the writer adds, and
// waits while the file cannot be opened.
func (r *Reader) subscribe(ctx context.Context, from eventlog.Sequence, yield func(eventlog.Record, error) bool) {
	for next := max(from, 1); ; {
		if err := r.tail.Wait(ctx, next-1); err != nil {
			yield(eventlog.Record{}, err)
			return
		}
		through := r.Last()
		if !r.read(ctx, span{from: next, through: through, patient: true}, yield) {
			return
		}
		next = through + 1
	}
}

// span says what to read.
type span struct {
	from, through eventlog.Sequence
	patient       bool // see store.view
}

// manyRecords is how many records make it faster to read the whole file first.
const manyRecords = 10_000

// long says whether the span is most of the log.
func (s span) long() bool {
	return s.through > s.from && s.through-s.from > manyRecords && s.through-s.from > s.through/2
}

// read yields the records of a span. It returns false if the iteration is over
// because of an error or because the consumer stopped.
func (r *Reader) read(ctx context.Context, s span, yield func(eventlog.Record, error) bool) bool {
	if s.long() {
		_ = r.store.warm(ctx) // an error shows again when the records are read
	}
	var decoder recordDecoder
	out := passing{yield: yield}
	var c chunk
	for next := s.from; next <= s.through; {
		c.reset()
		var after eventlog.Sequence
		err := ctx.Err()
		recent, through := r.recent.from(next), s.through
		if len(recent) > 0 {
			through = min(through, recent[0].Sequence-1)
		}
		switch {
		case err != nil:
		case through < next:
			after = c.recent(recent, s.through)
		default:
			err = r.store.view(ctx, s.patient, func(tx *bolt.Tx) error {
				after = readChunk(tx, &decoder, &c, next, through)
				return nil
			})
		}
		if err != nil {
			yield(eventlog.Record{}, fmt.Errorf("read the event log from record %d: %w", next, err))
			return false
		}
		if !out.pass(c) {
			return false
		}
		next = after
	}
	return out.flush()
}

// recent takes the records without gaps at the start of recent, until the chunk is
// full. after is the sequence to continue with.
func (c *chunk) recent(recent []eventlog.Record, through eventlog.Sequence) (after eventlog.Sequence) {
	after = recent[0].Sequence
	for _, record := range recent {
		if c.full() || record.Sequence != after || record.Sequence > through {
			break
		}
		c.add(record, len(record.Payload))
		after++
	}
	return after
}

// readChunk reads records from..through until the chunk is full. after is the
// sequence to continue with.
func readChunk(tx *bolt.Tx, decoder *recordDecoder, c *chunk, from, through eventlog.Sequence) (after eventlog.Sequence) {
	cursor := tx.Bucket(bucketRecords).Cursor()
	next, holes := from, holesOf(tx)
	under, _ := removingOf(tx)
	for k, v := cursor.Seek(recordKey(from)); k != nil && !c.full(); k, v = cursor.Next() {
		sequence, ok := parseRecordKey(k)
		if !ok {
			c.damage(eventlog.DamageError{Problem: fmt.Sprintf("a record has the key %x", k)})
			continue
		}
		if sequence > through {
			break
		}
		if sequence > next {
			holes.absent(next, sequence-1, c.gap, c.damage)
		}
		c.stored(decoder, &under, sequence, v)
		next = sequence + 1
	}
	if !c.full() && next <= through {
		holes.absent(next, through, c.gap, c.damage)
		next = through + 1
	}
	return next
}

// stored adds what is under the key of a sequence.
func (c *chunk) stored(decoder *recordDecoder, under *removing, sequence eventlog.Sequence, v []byte) {
	record, err := decodeAt(decoder, sequence, v)
	switch {
	case err != nil:
		c.damage(eventlog.DamageError{Sequence: sequence, Problem: err.Error()})
	case under.hides(&record):
		c.hidden(under, &record, false, len(v))
	default:
		c.add(record, len(v))
	}
}

func missing(from, through eventlog.Sequence) eventlog.DamageError {
	return eventlog.DamageError{Sequence: from, Through: through, Problem: "missing"}
}

// decodeAt decodes a record that was found under the key of a sequence.
func decodeAt(decoder *recordDecoder, sequence eventlog.Sequence, v []byte) (eventlog.Record, error) {
	if v == nil {
		return eventlog.Record{}, errors.New("missing")
	}
	record, err := decoder.decode(v)
	if err == nil && record.Sequence != sequence {
		err = fmt.Errorf("it says that it is record %d", record.Sequence)
	}
	return record, err
}

// ReadStream implements eventlog.Reader.
func (r *Reader) ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		if err := r.readStream(ctx, s, max(from, 1), yield); err != nil {
			yield(eventlog.Record{}, fmt.Errorf("read stream %q: %w", s, err))
		}
	}
}

// readStream yields until the consumer stops, which is no error.
func (r *Reader) readStream(ctx context.Context, s eventlog.Stream, from eventlog.Version, yield func(eventlog.Record, error) bool) error {
	var decoder recordDecoder
	out := passing{yield: yield}
	recent := r.recent.stream(s, from)
	var before eventlog.StreamInfo
	err := r.view(ctx, func(tx *bolt.Tx) (err error) {
		before, err = streamInfo(tx, s)
		return err
	})
	head := before.Version
	if len(recent) > 0 {
		head = recent[0].Version - 1
	}
	for next := from; err == nil && next <= head; {
		var c chunk
		err = r.view(ctx, func(tx *bolt.Tx) error {
			info, err := streamInfo(tx, s)
			if err != nil {
				return err
			}
			if info.Version < before.Version { // it was dropped meanwhile
				next = head + 1
				return nil
			}
			if next <= info.Base.Version {
				c.gap(info.Base.Gap(s))
				next = info.Base.Version + 1
			}
			next = readStreamChunk(tx, &decoder, &c, streamRange{s, next, head})
			return nil
		})
		if err == nil && !out.pass(c) {
			return nil
		}
	}
	if err != nil || !out.flush() {
		return err
	}
	return recentVersions(ctx, recent, yield)
}

// recentVersions yields records of one stream until the consumer stops, which is no error.
func recentVersions(ctx context.Context, recent []eventlog.Record, yield func(eventlog.Record, error) bool) error {
	for i, record := range recent {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i > 0 && recent[i-1].Version+1 < record.Version {
			damage := missingVersions(record.Stream, recent[i-1].Version+1, record.Version-1)
			if !yield(eventlog.Record{}, &damage) {
				return nil
			}
		}
		if !yield(record, nil) {
			return nil
		}
	}
	return nil
}

type streamRange struct {
	stream        eventlog.Stream
	from, through eventlog.Version
}

// readStreamChunk reads records of a stream until the chunk is full. after is
// the version to continue with.
func readStreamChunk(tx *bolt.Tx, decoder *recordDecoder, c *chunk, want streamRange) (after eventlog.Version) {
	records, gaps := tx.Bucket(bucketRecords), gapsOf(tx)
	under, _ := removingOf(tx)
	cursor := tx.Bucket(bucketIndex).Cursor()
	next := want.from
	for k, v := cursor.Seek(indexKey(want.stream, next)); k != nil && !c.full(); k, v = cursor.Next() {
		stream, version, ok := parseIndexKey(k)
		if !ok || stream != want.stream || version > want.through {
			break
		}
		if next < version {
			gaps.absent(streamRange{stream, next, version - 1}, c.gap, c.damage)
		}
		next = version + 1
		sequence, ok := parseRecordKey(v)
		if !ok {
			c.damage(eventlog.DamageError{Stream: stream, Version: version, Problem: fmt.Sprintf("the index says %x", v)})
			continue
		}
		value := records.Get(recordKey(sequence))
		record, err := decodeAt(decoder, sequence, value)
		if err == nil && (record.Stream != stream || record.Version != version) {
			err = fmt.Errorf("it is version %d of stream %q", record.Version, record.Stream)
		}
		if err != nil {
			c.damage(eventlog.DamageError{Sequence: sequence, Stream: stream, Version: version, Problem: err.Error()})
			continue
		}
		if under.hides(&record) {
			c.hidden(&under, &record, true, len(value))
			continue
		}
		c.add(record, len(value))
	}
	if !c.full() && next <= want.through {
		gaps.absent(streamRange{want.stream, next, want.through}, c.gap, c.damage)
		next = want.through + 1
	}
	return next
}

func missingVersions(s eventlog.Stream, from, through eventlog.Version) eventlog.DamageError {
	return eventlog.DamageError{Stream: s, Version: from, Problem: fmt.Sprintf("versions %d to %d are not in the index", from, through)}
}

// streamHead returns the version of a stream, and the sequence of the record
// that has it. Both are 0 if the stream does not exist.
func streamHead(tx *bolt.Tx, s eventlog.Stream) (eventlog.Version, eventlog.Sequence) {
	cursor := tx.Bucket(bucketIndex).Cursor()
	end := indexKey(s, ^eventlog.Version(0)) // behind every version of s
	k, v := pairBefore(cursor, end)
	if len(k) != len(end) || !bytes.HasPrefix(k, end[:len(s)+1]) {
		return 0, 0
	}
	sequence, _ := parseRecordKey(v)
	return eventlog.Version(binary.BigEndian.Uint64(k[len(s)+1:])), sequence
}

// view is the store's, unless the context is already done.
func (r *Reader) view(ctx context.Context, fn func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.store.view(ctx, false, fn)
}
