package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// history is the log, which survives the daemon: the one in memory, with events
// as they would be on a disk.
type history struct {
	log *memlog.Log
	// full: appends are refused.
	full bool
}

var errFull = errors.New("no space left on device")

func newHistory(boot int) *history {
	return &history{log: memlog.New(memlog.Options{BootID: bootID(boot)})}
}

func bootID(boot int) string { return fmt.Sprintf("boot-%d", boot) }

// reopen is what a new daemon does with the log.
func (h *history) reopen(boot int) {
	h.log = memlog.Reopen(h.log, memlog.Options{BootID: bootID(boot)})
	h.fill(h.full)
}

// powerFails takes away some of what was not yet on the disk, and returns how many
// appends.
func (h *history) powerFails(boot int, random *rand.Rand) (lost int) {
	lost = random.IntN(h.log.Volatile() + 1)
	h.log = memlog.PowerFailure(h.log, memlog.Options{BootID: bootID(boot)}, lost)
	h.fill(h.full)
	return lost
}

func (h *history) close() { _ = h.log.Close() }

// fill makes the disk full, or not.
func (h *history) fill(full bool) {
	if h.full = full; full {
		h.log.Fail(errFull)
	} else {
		h.log.Fail(nil)
	}
}

// place is how far a state has come in its stream.
type place struct {
	version  eventlog.Version
	sequence eventlog.Sequence
	// boot is the boot in which the last event was appended.
	boot string
}

// append makes events durable behind a place.
func (h *history) append(stream eventlog.Stream, after place, events []codec.Encoded, volatile bool) (place, error) {
	a := eventlog.Append{Stream: stream, Expected: after.version, Volatile: volatile}
	for _, e := range events {
		a.Entries = append(a.Entries, eventlog.Entry{Type: e.Type, Schema: e.Schema, Payload: e.Payload})
	}
	records, err := h.log.Append(context.Background(), a)
	if err != nil {
		return after, err
	}
	return placeOf(records[len(records)-1]), nil
}

func placeOf(r eventlog.Record) place {
	return place{version: r.Version, sequence: r.Sequence, boot: r.BootID}
}

// streams are the names of all streams, by their first record.
func (h *history) streams() []eventlog.Stream {
	var names []eventlog.Stream
	for r, err := range h.log.Read(context.Background(), 1) {
		must(err)
		if r.Version == 1 {
			names = append(names, r.Stream)
		}
	}
	return names
}

// events yields the records of a stream behind a sequence, decoded.
func events[E any](h *history, stream eventlog.Stream, behind eventlog.Sequence, decode decoder[E], yield func(E, place)) {
	for r, err := range h.log.ReadStream(context.Background(), stream, 1) {
		must(err)
		if r.Sequence <= behind {
			continue
		}
		e, err := decode(r.Type, r.Schema, r.Payload)
		must(err)
		yield(e, placeOf(r))
	}
}

type decoder[E any] func(typ string, schema uint32, payload []byte) (E, error)

// snapshot is a state with its place.
type snapshot[S any] struct {
	State   S
	Version eventlog.Version
	Boot    string
}

func save[S any](h *history, stream eventlog.Stream, s S, at place) {
	payload, err := json.Marshal(snapshot[S]{s, at.version, at.boot})
	must(err)
	err = h.log.SaveCheckpoint(context.Background(), string(stream), eventlog.Delta{
		Checkpoint: eventlog.Checkpoint{Sequence: at.sequence},
		Replace:    true,
		Put:        map[string][]byte{"state": payload},
	})
	if !errors.Is(err, eventlog.ErrUnavailable) {
		must(err)
	}
}

// restore folds a stream into a state, beginning with its snapshot if it has one.
func restore[S, E any](h *history, stream eventlog.Stream, decode decoder[E], evolve func(S, E) S) (S, place) {
	var from snapshot[S]
	saved, found, err := h.log.LoadCheckpoint(context.Background(), string(stream))
	must(err)
	if found {
		for pair, err := range saved.Pairs {
			must(err)
			must(json.Unmarshal(pair.Value, &from))
		}
	}
	at := place{version: from.Version, sequence: saved.Sequence, boot: from.Boot}
	events(h, stream, saved.Sequence, decode, func(e E, p place) {
		from.State, at = evolve(from.State, e), p
	})
	return from.State, at
}

// must stops a run that cannot go on: the log in memory refuses nothing but
// appends, and what was encoded can be decoded.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
