package keeper

import (
	"context"
	"fmt"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/eventlog"
)

// trimEvery is how many records of a stream that never ends are removed at least at a time:
// each time a state is written in their place.
const trimEvery = 32

// through replaces the beginning of a stream by the state that it leads to. The last record
// stays: it says of which boot the stream is.
func (t trimmer) through(ctx context.Context, stream eventlog.Stream, through eventlog.Version, rule string) error {
	info, exists, err := t.log.Stream(ctx, stream)
	if err != nil || !exists {
		return err
	}
	through = min(through, info.Version-1)
	if through < info.Base.Version+trimEvery && rule != RuleSize || through <= info.Base.Version {
		return nil
	}
	var state []byte
	if stream == hostStream {
		state, err = fold(ctx, t.log, info, through, kind[host.State, host.Event]{
			codec.DecodeHostState, codec.EncodeHostState, codec.DecodeHost, host.Evolve})
	} else {
		state, err = fold(ctx, t.log, info, through, kind[image.State, image.Event]{
			codec.DecodeImageState, codec.EncodeImageState, codec.DecodeImage, image.Evolve})
	}
	if err != nil {
		return fmt.Errorf("the state at version %d: %w", through, err)
	}
	return t.log.Trim(ctx, eventlog.Trim{Stream: stream, Through: through, Schema: codec.StateSchema, State: state, Rule: rule})
}

// kind is how the states and events of a machine are read and written.
type kind[S, E any] struct {
	decodeState func([]byte) (S, error)
	encodeState func(S) ([]byte, error)
	decode      func(string, uint32, []byte) (E, error)
	evolve      func(S, E) S
}

// fold returns the encoded state of a stream at a version. A record that cannot be read is an
// error: a state without it would be another one.
func fold[S, E any](ctx context.Context, log eventlog.Reader, info eventlog.StreamInfo, through eventlog.Version, m kind[S, E]) ([]byte, error) {
	var state S
	var err error
	if info.Base.Version > 0 {
		if state, err = codec.FromBase(m.decodeState)(info.Base.Schema, info.Base.State); err != nil {
			return nil, err
		}
	}
	at := info.Base.Version
	for record, err := range log.ReadStream(ctx, info.Stream, at+1) {
		if err != nil {
			return nil, err
		}
		if record.Version > through {
			break
		}
		if at++; record.Version != at {
			return nil, fmt.Errorf("version %d comes after %d", record.Version, at-1)
		}
		event, err := m.decode(record.Type, record.Schema, record.Payload)
		if codec.CanSkip(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		state = m.evolve(state, event)
	}
	if at != through {
		return nil, fmt.Errorf("it ends at version %d", at)
	}
	return m.encodeState(state)
}
