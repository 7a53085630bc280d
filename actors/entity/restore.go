package entity

import (
	"context"
	"fmt"

	"github.com/stele-runtime/stele/eventlog"
)

// Replay reads a stream and folds it into a state. A damaged or unknown record
// is an error: to go on without it would be to invent a past.
func Replay[S, C, E any, F Effect](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream) (Restored[S], error) {
	r, _, err := replay(ctx, m, log, stream, allSeen)
	return r, err
}

// allSeen is the version of one who wants to hear of no event.
const allSeen = ^eventlog.Version(0)

// step is an event with the state that it led to.
type step[S, E any] struct {
	event E
	at    Restored[S]
}

// replay is Replay, and returns the events behind the version that was seen.
func replay[S, C, E any, F Effect](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream, seen eventlog.Version) (r Restored[S], missed []step[S, E], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("replay %s after version %d: panic: %v", stream, r.Version, p)
		}
	}()
	for record, err := range log.ReadStream(ctx, stream, 1) {
		if err != nil {
			return r, nil, fmt.Errorf("replay %s after version %d: %w", stream, r.Version, err)
		}
		event, err := m.Decode(record.Type, record.Schema, record.Payload)
		if err != nil {
			return r, nil, fmt.Errorf("replay %s, version %d: %w", stream, record.Version, err)
		}
		r = As(record, m.Evolve(r.State, event))
		if r.Version > seen {
			missed = append(missed, step[S, E]{event, r})
		}
	}
	return r, missed, nil
}

// As is the place of a record, with the state that it led to.
func As[S any](record eventlog.Record, state S) Restored[S] {
	return Restored[S]{State: state, Version: record.Version, Sequence: record.Sequence, BootID: record.BootID}
}
