package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/cmd/stele/internal/bundle"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// compared is how many of the log's newest records the node's percentiles are from.
const compared = 2000

// Query is what a history is wanted of.
type Query struct {
	// Name is what it is about; nil for the whole node.
	Name *timeline.Name
	// Gone: of the whole node also what has ended.
	Gone bool
	// At is when.
	At timeline.Point
}

// Timeline returns a history, and the moment that its durations count to: now for a running
// daemon, or else the last record's time or the point's. Errors: *timeline.PointError.
func (s *Source) Timeline(ctx context.Context, q Query) (*timeline.Timeline, time.Time, error) {
	if s.Live() && q.At.IsEnd() && (q.Name != nil || !q.Gone) {
		var t *timeline.Timeline
		err := s.WithAdmin(func(c adminv1.AdminServiceClient) (err error) {
			t, err = s.ask(ctx, c, q.Name)
			return err
		})
		return t, time.Now(), err
	}
	t := timeline.New()
	now, err := s.Until(ctx, q.At, func(r *adminv1.Record) error {
		t.Add(record.Model(r))
		return nil
	})
	return t, now, err
}

// Newest returns the history of the whole node in the newest records until a point, and the
// moment that its durations count to, as with Timeline. What began before them is known in part.
func (s *Source) Newest(ctx context.Context, most uint64, to timeline.Point) (*timeline.Timeline, time.Time, error) {
	last, err := s.last(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	if to.Sequence > 0 {
		last = min(last, to.Sequence)
	}
	t := timeline.New()
	now, err := s.until(ctx, last-min(last, most)+1, to, func(r *adminv1.Record) error {
		t.Add(record.Model(r))
		return nil
	})
	return t, now, err
}

// last is the sequence of the newest record.
func (s *Source) last(ctx context.Context) (last uint64, err error) {
	switch {
	case s.Bundle != "":
		file, err := bundle.Open(s.Bundle)
		if err != nil {
			return 0, err
		}
		defer func() { _ = file.Close() }() // read-only
		return file.Manifest.Last, nil
	case s.Root != "":
		return s.lastOfRoot()
	}
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		stats, err := c.LogStats(ctx, &adminv1.LogStatsRequest{})
		if err != nil {
			return fmt.Errorf("ask for the event log's figures: %w", err)
		}
		last = stats.GetLastSequence()
		return nil
	})
	return last, err
}

// ask reads only the streams that matter, so that the answer does not take longer the older
// the node is. Without a name those of all that has not ended matter.
func (s *Source) ask(ctx context.Context, c adminv1.AdminServiceClient, name *timeline.Name) (*timeline.Timeline, error) {
	what, req := "what has not ended", &adminv1.InspectRequest{All: true}
	if name != nil {
		what, req = name.String(), &adminv1.InspectRequest{Id: name.String()}
	}
	found, err := c.Inspect(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", what, err)
	}
	wanted := []string{"node"}
	for _, e := range found.GetEntities() {
		wanted = append(wanted, e.GetStream())
	}
	read, records := map[string]bool{}, map[uint64]timeline.Record{}
	for {
		wanted = slices.DeleteFunc(wanted, func(stream string) bool { return read[stream] })
		if len(wanted) == 0 {
			break
		}
		for _, stream := range wanted {
			read[stream] = true
		}
		err := s.asked(ctx, c, &adminv1.EventsRequest{Streams: wanted}, func(r *adminv1.Record) error {
			records[r.GetSequence()] = record.Model(r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		wanted = nil
		if name != nil {
			wanted = related(inOrder(records))
		}
	}
	t := inOrder(records)
	if name == nil {
		return t, nil
	}
	stats, err := c.LogStats(ctx, &adminv1.LogStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the event log's figures: %w", err)
	}
	others := timeline.New()
	err = s.asked(ctx, c, &adminv1.EventsRequest{From: stats.GetLastSequence() - min(stats.GetLastSequence(), compared)}, func(r *adminv1.Record) error {
		others.Add(record.Model(r))
		return nil
	})
	t.Compare(others)
	return t, err
}

// related are the streams that a timeline's pods and containers lead to.
func related(t *timeline.Timeline) []string {
	var streams []string
	for _, c := range t.AllContainers() {
		if c.State.Sandbox != "" {
			streams = append(streams, "sandbox/"+string(c.State.Sandbox))
		}
		if c.ImageRef != "" {
			streams = append(streams, "image/"+id.ImageKey(c.ImageRef))
		}
	}
	for _, p := range t.Pods() {
		for _, c := range p.Members {
			streams = append(streams, "container/"+string(c))
		}
	}
	// What a request wrote into its configuration need not be the name of a stream.
	return slices.DeleteFunc(streams, func(name string) bool {
		return len(name) > eventlog.MaxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
	})
}

func inOrder(records map[uint64]timeline.Record) *timeline.Timeline {
	t := timeline.New()
	for _, sequence := range slices.Sorted(maps.Keys(records)) {
		t.Add(records[sequence])
	}
	return t
}
