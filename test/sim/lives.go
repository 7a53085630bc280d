package sim

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/projections"
)

// lives are the turns of pods and containers that a subscriber of GetContainerEvents is
// told of.
type lives map[eventlog.Stream][]projections.Turn

// follow has the states follow the log by one record and notes what a subscriber is told.
// It returns the record's event, and what is wrong with the life; empty if nothing is.
func (l lives) follow(s *states, record eventlog.Record) (event any, wrong string) {
	var turns []projections.Turn
	kind, name, _ := strings.Cut(string(record.Stream), "/")
	switch kind {
	case "sandbox":
		before := s.Sandboxes[id.Sandbox(name)]
		event = s.fold(record)
		turns = projections.SandboxTurns(&projections.Sandbox{Restored: before}, &projections.Sandbox{Restored: s.Sandboxes[id.Sandbox(name)]})
	case "container":
		before := s.Containers[id.Container(name)]
		event = s.fold(record)
		turns = projections.ContainerTurns(&projections.Container{Restored: before}, &projections.Container{Restored: s.Containers[id.Container(name)]})
	default:
		return s.fold(record), ""
	}
	if len(turns) == 0 {
		return event, ""
	}
	l[record.Stream] = append(l[record.Stream], turns...)
	if all := l[record.Stream]; !slices.Equal(all, inOrder(all)) {
		return event, "a subscriber is told of it in a wrong order"
	}
	return event, ""
}

// inOrder is what a subscriber may be told at most, of those turns.
func inOrder(turns []projections.Turn) (right []projections.Turn) {
	for _, turn := range []projections.Turn{projections.Created, projections.Started, projections.Stopped, projections.Deleted} {
		if slices.Contains(turns, turn) {
			right = append(right, turn)
		}
	}
	return right
}

// reread notes what the log says from its beginning, after it has lost its end.
func (l lives) reread(log eventlog.Reader) {
	clear(l)
	s := newStates()
	for record, err := range log.Read(context.Background(), 1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		must(err)
		_, _ = l.follow(&s, record)
	}
}

// unfinished are the lives of which a subscriber was told the beginning, but not the end.
func (l lives) unfinished() (names []eventlog.Stream) {
	for stream, turns := range l {
		if !slices.Contains(turns, projections.Created) || !slices.Contains(turns, projections.Stopped) || !slices.Contains(turns, projections.Deleted) {
			names = append(names, stream)
		}
	}
	slices.Sort(names)
	return names
}
