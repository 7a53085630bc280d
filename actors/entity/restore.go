package entity

import (
	"context"
	"fmt"

	"github.com/stele-runtime/stele/eventlog"
)

// Replay reads a stream and folds it into a state. A damaged or unknown record
// is an error: to go on without it would be to invent a past.
func Replay[S, C, E any, F Effect](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream) (r Restored[S], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("replay %s after version %d: panic: %v", stream, r.Version, p)
		}
	}()
	for record, err := range log.ReadStream(ctx, stream, 1) {
		if err != nil {
			return r, fmt.Errorf("replay %s after version %d: %w", stream, r.Version, err)
		}
		event, err := m.Decode(record.Type, record.Schema, record.Payload)
		if err != nil {
			return r, fmt.Errorf("replay %s, version %d: %w", stream, record.Version, err)
		}
		r = Restored[S]{State: m.Evolve(r.State, event), Version: record.Version, Sequence: record.Sequence}
	}
	return r, nil
}
