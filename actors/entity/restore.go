package entity

import (
	"context"
	"errors"
	"fmt"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
)

// Replay says how to read a stream.
type Replay struct {
	// Behind is the version after which each event is wanted, too.
	Behind eventlog.Version
}

// allSeen is the version of a reader that wants no event.
const allSeen = ^eventlog.Version(0)

// Replayed is the result of reading a stream.
type Replayed[S, E any] struct {
	At Restored[S]
	// Missed are the events after Replay.Behind.
	Missed []Step[S, E]
	Err    error
}

// Step is an event with the state that it led to.
type Step[S, E any] struct {
	Event E
	At    Restored[S]
}

// Restore reads a stream, unless the machine can recall its end, and folds it into a
// state. A damaged or unknown record is an error, unless it is marked as skippable: going
// on without it would invent a past.
func Restore[S, C, E any, F Effect[C]](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream) (Restored[S], error) {
	r := restore(ctx, m, log, stream, Replay{Behind: allSeen})
	return r.At, r.Err
}

func restore[S, C, E any, F Effect[C]](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream, how Replay) (r Replayed[S, E]) {
	defer func() {
		if p := recover(); p != nil {
			r.Err = fmt.Errorf("replay %s after version %d: panic: %v", stream, r.At.Version, p)
		}
	}()
	if m.Recall != nil && how.Behind == allSeen {
		if at, known := m.Recall(ctx, stream); known {
			r.At = at
			return r
		}
	}
	if r.At, r.Err = base(ctx, m, log, stream); r.Err != nil {
		return r
	}
	if r.At.Version > how.Behind {
		r.Err = fmt.Errorf("replay %s after version %d: its events were trimmed through version %d", stream, how.Behind, r.At.Version)
		return r
	}
	next := r.At.Version + 1
	for record, err := range log.ReadStream(ctx, stream, next) {
		if gap, is := errors.AsType[*eventlog.GapError](err); is && gap.Base <= r.At.Version {
			next = gap.Through + 1 // these do not matter to the state
			continue
		}
		if err != nil && !errors.Is(err, eventlog.ErrRemoved) {
			r.Err = fmt.Errorf("replay %s after version %d: %w", stream, r.At.Version, err)
			return r
		}
		if err != nil || record.Version != next {
			if now, err := base(ctx, m, log, stream); err == nil && now.Version > r.At.Version {
				return restore(ctx, m, log, stream, how) // it was trimmed meanwhile
			}
			r.Err = fmt.Errorf("replay %s after version %d: version %d comes next", stream, r.At.Version, record.Version)
			return r
		}
		next++
		event, err := m.Decode(record.Type, record.Schema, record.Payload)
		if codec.CanSkip(err) {
			r.At = As(record, r.At.State)
			continue
		}
		if err != nil {
			r.Err = fmt.Errorf("replay %s, version %d: %w", stream, record.Version, err)
			return r
		}
		r.At = As(record, m.Evolve(r.At.State, event))
		if r.At.Version > how.Behind {
			r.Missed = append(r.Missed, Step[S, E]{event, r.At})
		}
	}
	return r
}

// base returns the state that stands in for a stream's trimmed records; the zero value if
// none were trimmed.
func base[S, C, E any, F Effect[C]](ctx context.Context, m *Machine[S, C, E, F], log eventlog.Reader, stream eventlog.Stream) (at Restored[S], err error) {
	info, _, err := log.Stream(ctx, stream)
	switch {
	case err != nil:
		return at, fmt.Errorf("replay %s: %w", stream, err)
	case info.Base.Version == 0:
		return at, nil
	case m.DecodeState == nil:
		return at, fmt.Errorf("replay %s: its beginning was trimmed, and the state at version %d cannot be read", stream, info.Base.Version)
	}
	at.Version, at.Sequence = info.Base.Version, info.Base.Sequence
	if at.State, err = m.DecodeState(info.Base.Schema, info.Base.State); err != nil {
		err = fmt.Errorf("replay %s: the state at version %d: %w", stream, info.Base.Version, err)
	}
	return at, err
}

// As returns a state with the place of the record that led to it.
func As[S any](record eventlog.Record, state S) Restored[S] {
	return Restored[S]{State: state, Version: record.Version, Sequence: record.Sequence, BootID: record.BootID}
}
