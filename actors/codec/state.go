package codec

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/backoff"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// A machine's State as a checkpoint keeps it. What was empty and what was absent are
// both read back as absent. Errors of the decoders: *StateError.

// StateError says that a checkpoint's value is not the state that it should be.
type StateError struct {
	// Kind is the machine.
	Kind string
	Err  error
}

func (e *StateError) Error() string { return fmt.Sprintf("state of %s: %v", e.Kind, e.Err) }

// Unwrap returns the decoder's error.
func (e *StateError) Unwrap() error { return e.Err }

func encodeState(kind string, m proto.Message) ([]byte, error) {
	b, err := marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the state of %s: %w", kind, err)
	}
	return b, nil
}

func decodeState(kind string, b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return &StateError{Kind: kind, Err: err}
	}
	return nil
}

// listOf makes a list of a map, in the order of its keys.
func listOf[K cmp.Ordered, V, T any](from map[K]V, to func(K, V) T) []T {
	var list []T
	for _, k := range slices.Sorted(maps.Keys(from)) {
		list = append(list, to(k, from[k]))
	}
	return list
}

// mapOf is the map that a list was made of; nil for an empty one.
func mapOf[K comparable, V, T any](list []T, from func(T) (K, V)) map[K]V {
	if len(list) == 0 {
		return nil
	}
	m := make(map[K]V, len(list))
	for _, t := range list {
		k, v := from(t)
		m[k] = v
	}
	return m
}

func retriesTo(s backoff.Schedule) []*statepb.Retry {
	return listOf(s, func(key string, r backoff.Retry) *statepb.Retry {
		return &statepb.Retry{Key: key, Tries: int64(r.Tries), At: stamp(r.At)}
	})
}

func retriesFrom(list []*statepb.Retry) backoff.Schedule {
	return mapOf(list, func(r *statepb.Retry) (string, backoff.Retry) {
		return r.GetKey(), backoff.Retry{Tries: int(r.GetTries()), At: at(r.GetAt())}
	})
}
