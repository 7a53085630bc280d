package boltlog

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"github.com/stele-runtime/stele/eventlog"
)

// placesChunk is how many entries of the index are read in one transaction.
const placesChunk = 1 << 14

// run is a part of a stream, as the index has it.
type run struct {
	stream    eventlog.Stream
	sequences []eventlog.Sequence
}

// errIndex ends the iteration: a stream may have more records than the index leads to.
var errIndex = fmt.Errorf("%w: the index is damaged", eventlog.ErrCorrupt)

// Places implements eventlog.Reader.
func (r *Reader) Places(ctx context.Context) iter.Seq2[eventlog.Places, error] {
	return func(yield func(eventlog.Places, error) bool) {
		// First: what is moved to the index meanwhile is found twice, and not missed.
		recent := r.recent.places()
		_ = r.store.warm(ctx) // an error shows again when the index is read
		pass := func(p run) bool {
			for _, s := range recent[p.stream] {
				if n := len(p.sequences); n == 0 || s > p.sequences[n-1] {
					p.sequences = append(p.sequences, s)
				}
			}
			delete(recent, p.stream)
			return len(p.sequences) == 0 || yield(eventlog.Places{Stream: p.stream, Sequences: p.sequences}, nil)
		}
		var held run // its rest may be in the next chunk
		var buffer []eventlog.Sequence
		for next := []byte{}; next != nil; {
			var runs []run
			err := r.view(ctx, func(tx *bolt.Tx) (err error) {
				runs, buffer, next, err = readPlaces(tx, next, buffer[:0])
				return err
			})
			if err != nil {
				yield(eventlog.Places{}, fmt.Errorf("look for the records of all streams: %w", err))
				return
			}
			for i, found := range runs {
				if found.stream == held.stream {
					held.sequences = append(held.sequences, found.sequences...)
					continue
				}
				if !pass(held) {
					return
				}
				held = found
				if i == len(runs)-1 { // The buffer is used again.
					held.sequences = append([]eventlog.Sequence(nil), found.sequences...)
				}
			}
		}
		if !pass(held) {
			return
		}
		for stream := range recent {
			if !pass(run{stream: stream}) {
				return
			}
		}
	}
}

// readPlaces reads entries of the index from a key on. Their sequences are appended to the buffer.
// after is the key to continue with, nil at the end.
func readPlaces(tx *bolt.Tx, from []byte, buffer []eventlog.Sequence) (runs []run, filled []eventlog.Sequence, after []byte, err error) {
	under, err := removingOf(tx)
	if err != nil {
		return nil, buffer, nil, err
	}
	var name []byte // with what parts it from the version
	begun := 0
	cursor := tx.Bucket(bucketIndex).Cursor()
	k, v := cursor.Seek(from)
	for n := 0; k != nil && n < placesChunk; n++ {
		sequence, ok := parseRecordKey(v)
		cut := len(k) - sequenceSize
		if !ok || cut < 2 || k[cut-1] != 0 {
			return nil, buffer, nil, fmt.Errorf("%w: %x leads to %x", errIndex, k, v)
		}
		if !bytes.Equal(k[:cut], name) {
			stream, _, ok := parseIndexKey(k)
			if !ok {
				return nil, buffer, nil, fmt.Errorf("%w: it has the key %x", errIndex, k)
			}
			name, begun = k[:cut], len(buffer)
			runs = append(runs, run{stream: stream})
		}
		last := &runs[len(runs)-1]
		if under.none() || !hidden(&under, last.stream, k, sequence) {
			buffer = append(buffer, sequence)
			last.sequences = buffer[begun:len(buffer):len(buffer)]
		}
		k, v = cursor.Next()
	}
	return runs, buffer, bytes.Clone(k), nil
}

// hidden reports whether a record, by its key in the index, is removed although it is still
// stored.
func hidden(under *removing, s eventlog.Stream, k []byte, sequence eventlog.Sequence) bool {
	_, version, _ := parseIndexKey(k)
	return under.hides(&eventlog.Record{Stream: s, Version: version, Sequence: sequence})
}

// places returns the sequences of each stream.
func (r *recent) places() map[eventlog.Stream][]eventlog.Sequence {
	places := map[eventlog.Stream][]eventlog.Sequence{}
	for _, record := range r.all() {
		places[record.Stream] = append(places[record.Stream], record.Sequence)
	}
	return places
}

// ReadAt implements eventlog.Reader.
func (r *Reader) ReadAt(ctx context.Context, sequences []eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		var decoder recordDecoder
		out := passing{yield: yield}
		c := chunk{items: make([]item, 0, min(len(sequences), chunkRecords))}
		for rest := sequences; len(rest) > 0; {
			recent := r.recent.from(rest[0])
			err := r.view(ctx, func(tx *bolt.Tx) error {
				c.reset()
				rest = readChunkAt(tx, &decoder, &c, rest, recent)
				return nil
			})
			if err != nil {
				yield(eventlog.Record{}, fmt.Errorf("read the event log at record %d: %w", rest[0], err))
				return
			}
			if !out.pass(c) {
				return
			}
		}
		out.flush()
	}
}

// readChunkAt reads records until the chunk is full, and returns the sequences to continue with.
func readChunkAt(tx *bolt.Tx, decoder *recordDecoder, c *chunk, sequences []eventlog.Sequence, recent []eventlog.Record) (rest []eventlog.Sequence) {
	cursor, holes := tx.Bucket(bucketRecords).Cursor(), holesOf(tx)
	under, _ := removingOf(tx)
	removed := eventlog.Sequence(0) // the end of the last run of removed records
	var k, v []byte
	for rest = sequences; len(rest) > 0 && !c.full(); rest = rest[1:] {
		sequence := rest[0]
		for len(recent) > 0 && recent[0].Sequence < sequence {
			recent = recent[1:]
		}
		if len(recent) > 0 && recent[0].Sequence == sequence {
			c.add(recent[0], len(recent[0].Payload))
			continue
		}
		if before, ok := parseRecordKey(k); ok && before+1 == sequence {
			k, v = cursor.Next()
		} else {
			k, v = cursor.Seek(recordKey(sequence))
		}
		if found, ok := parseRecordKey(k); !ok || found != sequence {
			if sequence > removed {
				holes.absent(sequence, sequence, func(g *eventlog.GapError) { removed = g.Last; c.gap(g) }, c.damage)
			}
			continue
		}
		c.stored(decoder, &under, sequence, v)
	}
	return rest
}
