package sim

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// history is the log: one list of events for each stream. It survives the daemon.
type history struct {
	streams map[string]*stream
	// order holds the streams by their first record.
	order []string
	// full: appends are refused.
	full bool
}

// stream is the history of one entity.
type stream struct {
	events []any
	// boot is the boot in which the last event was appended.
	boot int
	// snapshot is the state after the first `until` events, if there is one.
	snapshot []byte
	until    int
}

func newHistory() *history { return &history{streams: map[string]*stream{}} }

func (h *history) append(name string, boot int, events []any) {
	s := h.streams[name]
	if s == nil {
		s = &stream{}
		h.streams[name] = s
		h.order = append(h.order, name)
	}
	s.events, s.boot = append(s.events, events...), boot
}

// restore folds a stream into a state, beginning with its snapshot if it has one.
func restore[S, E any](s *stream, evolve func(S, E) S) (state S) {
	if s.snapshot != nil {
		if err := json.Unmarshal(s.snapshot, &state); err != nil {
			panic(err) // a bug of the state's type
		}
	}
	for _, e := range s.events[s.until:] {
		state = evolve(state, e.(E))
	}
	return state
}

// save makes a snapshot of the state at the end of the stream.
func (s *stream) save(state any) {
	snapshot, err := json.Marshal(state)
	if err != nil {
		panic(err) // a bug of the state's type
	}
	s.snapshot, s.until = snapshot, len(s.events)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
