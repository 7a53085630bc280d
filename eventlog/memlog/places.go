package memlog

import (
	"context"
	"iter"
	"slices"

	"github.com/stele-runtime/stele/eventlog"
)

// Places implements eventlog.Reader.
func (l *Log) Places(ctx context.Context) iter.Seq2[eventlog.Places, error] {
	return func(yield func(eventlog.Places, error) bool) {
		if err := l.alive(ctx); err != nil {
			yield(eventlog.Places{}, err)
			return
		}
		l.mu.Lock()
		var all []eventlog.Places
		for stream, sequences := range l.state.streams {
			if len(sequences) > 0 {
				all = append(all, eventlog.Places{Stream: stream, Sequences: slices.Clone(sequences)})
			}
		}
		l.mu.Unlock()
		for _, places := range all {
			if !yield(places, nil) {
				return
			}
		}
	}
}

// ReadAt implements eventlog.Reader.
func (l *Log) ReadAt(ctx context.Context, sequences []eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		through := eventlog.Sequence(0) // of the last removed run
		for _, s := range sequences {
			if err := l.alive(ctx); err != nil {
				yield(eventlog.Record{}, err)
				return
			}
			if s <= through {
				continue
			}
			if s == 0 || s > l.Last() {
				if !yield(eventlog.Record{}, &eventlog.DamageError{Sequence: s, Through: s, Problem: "missing"}) {
					return
				}
				continue
			}
			through = s
			if !l.pass(&through, yield) {
				return
			}
		}
	}
}
