package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Part is a part of a log: pods, with all their containers and the images of these, and the
// node's own events. A pod is whole or not in it.
type Part struct {
	// Names are those of pods or of containers, which stand for their pods; all without any.
	Names []timeline.Name
	// Since and Until select pods of which there is an event within; zero for no bound.
	Since, Until time.Time
	// Environment: with the values of environment variables.
	Environment bool
}

// Export calls each with the records of a part, and returns the pods' containers, and what of
// the log was removed. It reads twice: which pods matter is known at the end.
func (s *Source) Export(ctx context.Context, part Part, each func(*adminv1.Record) error) (*timeline.Timeline, timeline.Dropped, error) {
	chosen, last, err := s.choose(ctx, part)
	if err != nil {
		return nil, timeline.Dropped{}, err
	}
	t, dropped := timeline.New(), timeline.Dropped{}
	counting := *s
	counting.dropped = dropped.Join
	s = &counting
	_, err = s.Until(ctx, timeline.Point{Sequence: last}, func(r *adminv1.Record) error {
		if !chosen(r.GetStream()) {
			return nil
		}
		if named(r) {
			t.Add(record.Model(r))
		}
		if !part.Environment {
			payload, err := codec.WithoutSecrets(r.GetType(), r.GetSchema(), r.GetPayload())
			if err != nil {
				payload = nil // nobody can tell what is in it
			}
			r.Payload = payload
		}
		return each(r)
	})
	return t, dropped, err
}

// choose returns which streams belong to a part, and the last record that was seen.
func (s *Source) choose(ctx context.Context, part Part) (chosen func(stream string) bool, last uint64, err error) {
	t, within := timeline.New(), map[string]bool{}
	_, err = s.Until(ctx, timeline.Point{}, func(r *adminv1.Record) error {
		last = r.GetSequence()
		if named(r) {
			t.Add(record.Model(r))
		}
		at := r.GetTime().AsTime()
		if (part.Since.IsZero() || !at.Before(part.Since)) && (part.Until.IsZero() || !at.After(part.Until)) {
			within[r.GetStream()] = true
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, 0, err
	case last == 0:
		return nil, 0, fmt.Errorf("the log has no records")
	case len(part.Names) == 0 && part.Since.IsZero() && part.Until.IsZero():
		return func(string) bool { return true }, last, nil
	}
	wanted := map[string]bool{"node": true}
	for _, p := range t.Pods() {
		members := t.Containers(p)
		stream := "sandbox/" + string(p.State.ID)
		named, inTime := len(part.Names) == 0, within[stream]
		for _, n := range part.Names {
			named = named || n.Pod(p.State.ID, p.State.Name)
		}
		for _, c := range members {
			inTime = inTime || within["container/"+string(c.State.ID)]
			named = named || slices.ContainsFunc(part.Names, func(n timeline.Name) bool { return n.Container(c.State.ID, c.State.Name, p.State.Name) })
		}
		if !named || !inTime {
			continue
		}
		wanted[stream] = true
		for _, c := range members {
			wanted["container/"+string(c.State.ID)], wanted["image/"+id.ImageKey(c.ImageRef)] = true, true
		}
	}
	if len(wanted) == 1 && len(part.Names) > 0 {
		var texts []string
		for _, n := range part.Names {
			texts = append(texts, n.String())
		}
		return nil, 0, &timeline.UnknownError{Name: strings.Join(texts, ", ")}
	}
	return func(stream string) bool { return wanted[stream] }, last, nil
}

// named reports whether a record has the names of a pod or a container.
func named(r *adminv1.Record) bool {
	return strings.HasPrefix(r.GetType(), "sandbox.SandboxRequested.") || strings.HasPrefix(r.GetType(), "container.ContainerRequested.")
}
