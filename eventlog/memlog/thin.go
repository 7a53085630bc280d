package memlog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// removed is what is kept of one removed record.
type removed struct {
	Sequence eventlog.Sequence
	Rule     string
	At       time.Time
}

func (r removed) removal() eventlog.Removal {
	return eventlog.Removal{First: r.Sequence, Last: r.Sequence, Since: r.At, Until: r.At, Rules: eventlog.Rules{r.Rule: 1}}
}

// remove removes records from the log, and returns what is kept of them. The lock is held.
func (l *Log) remove(sequences []eventlog.Sequence, rule string) (gone []removed) {
	now := time.Unix(0, l.options.Clock.Now().UnixNano()).UTC()
	l.state.records = slices.Clone(l.state.records)
	for _, s := range sequences {
		l.state.records[s-1] = eventlog.Record{}
		l.state.removed[s] = removed{s, rule, now}
		gone = append(gone, l.state.removed[s])
	}
	l.state.volatile = nil
	return gone
}

// Thin implements eventlog.Log.
func (l *Log) Thin(ctx context.Context, t eventlog.Thin) error {
	if err := l.alive(ctx); err != nil {
		return err
	}
	if err := t.Check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if err := t.CheckThrough(eventlog.Sequence(len(l.state.records))); err != nil {
		return err
	}
	var records []eventlog.Record
	var sequences []eventlog.Sequence
	for _, s := range t.Sequences {
		r := l.state.records[s-1]
		if r.Sequence == 0 {
			continue
		}
		if err := t.CheckAt(r, l.state.info(r.Stream)); err != nil {
			return err
		}
		records, sequences = append(records, r), append(sequences, s)
	}
	for i, gone := range l.remove(sequences, t.Rule) {
		r := records[i]
		thinned := maps.Clone(l.state.thinned[r.Stream])
		if thinned == nil {
			thinned = make(map[eventlog.Version]removed)
		}
		thinned[r.Version] = gone
		l.state.thinned[r.Stream] = thinned
		l.state.streams[r.Stream] = slices.DeleteFunc(slices.Clone(l.state.streams[r.Stream]), func(s eventlog.Sequence) bool { return s == gone.Sequence })
	}
	return nil
}

// gap is the run of removed records around one of them.
func (s *state) gap(around eventlog.Sequence) *eventlog.GapError {
	first, last := around, around
	for first > 1 && s.records[first-2].Sequence == 0 {
		first--
	}
	for int(last) < len(s.records) && s.records[last].Sequence == 0 {
		last++
	}
	gap := &eventlog.GapError{}
	for at := first; at <= last; at++ {
		gap.Removal = gap.Removal.Join(s.removed[at].removal())
	}
	return gap
}

// item is a record of a stream, or a run of removed ones.
type item struct {
	record eventlog.Record
	gap    *eventlog.GapError
}

// stream lists a stream from a version on.
func (s *state) stream(name eventlog.Stream, from eventlog.Version) (items []item) {
	base := s.bases[name]
	var gap *eventlog.GapError
	if from <= base.Version {
		gap = base.Gap(name)
	}
	next := base.Version + 1
	for _, sequence := range s.streams[name] {
		r := s.records[sequence-1]
		for ; next < r.Version; next++ {
			if gap == nil {
				gap = &eventlog.GapError{Stream: name, From: next}
			}
			gap.Removal, gap.Through = gap.Removal.Join(s.thinned[name][next].removal()), next
		}
		if gap != nil && gap.Through >= from {
			items = append(items, item{gap: gap})
		}
		if r.Version >= from {
			items = append(items, item{record: r})
		}
		gap, next = nil, r.Version+1
	}
	if gap != nil && gap.Through >= max(from, 1) {
		items = append(items, item{gap: gap})
	}
	return items
}

// rules count what was removed.
func (s *state) rules() eventlog.Rules {
	rules := make(eventlog.Rules)
	for _, r := range s.removed {
		rules[r.Rule]++
	}
	return rules
}

// Usage implements eventlog.Reader.
func (l *Log) Usage(ctx context.Context) (eventlog.Usage, error) {
	if err := l.alive(ctx); err != nil {
		return eventlog.Usage{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := eventlog.Usage{Last: eventlog.Sequence(len(l.state.records)), Removed: l.state.rules()}
	for _, r := range l.state.records {
		if r.Sequence == 0 {
			continue
		}
		if u.First == 0 {
			u.First = r.Sequence
		}
		u.Records++
		u.RecordBytes += int64(len(r.Stream) + len(r.Type) + len(r.Payload))
	}
	return u, nil
}

// Compact implements eventlog.Log. Memory has nothing to give back.
func (l *Log) Compact(ctx context.Context) error {
	if err := l.alive(ctx); err != nil {
		return fmt.Errorf("compact the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fail
}
