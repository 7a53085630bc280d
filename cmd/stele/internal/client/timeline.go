package client

import (
	"context"
	"errors"
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
	// Names are what it is about; the whole node without any.
	Names []timeline.Name
	// Gone: also what has ended, if something that lives has the name, too; and of the whole
	// node. Then a name that means nothing is no error.
	Gone bool
	// At is when.
	At timeline.Point
}

// Timeline returns a history, and the moment that its durations count to: now for a running
// daemon, or else the last record's time or the point's. Errors: *timeline.PointError.
func (s *Source) Timeline(ctx context.Context, q Query) (t *timeline.Timeline, now time.Time, err error) {
	if s.Live() && (len(q.Names) > 0 || q.At.IsEnd() && !q.Gone) {
		err := s.WithAdmin(func(c adminv1.AdminServiceClient) (err error) {
			t, now, err = asking{s, c, q}.timeline(ctx)
			return err
		})
		return t, now, err
	}
	t = timeline.New()
	now, err = s.Until(ctx, q.At, func(r *adminv1.Record) error {
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

// asking asks a daemon only for the streams that matter, so that the answer does not take longer
// the older the node is. Without a name those of all that has not ended matter.
type asking struct {
	*Source
	admin adminv1.AdminServiceClient
	Query
}

func (a asking) timeline(ctx context.Context) (*timeline.Timeline, time.Time, error) {
	gaps := map[string]timeline.Dropped{}
	quiet := *a.Source
	quiet.dropped = func(d timeline.Dropped) {
		sum := gaps[d.Stream]
		sum.Join(d)
		gaps[d.Stream] = sum
	}
	a.Source = &quiet
	now, end, err := a.bounds(ctx)
	if err != nil {
		return nil, now, err
	}
	wanted, err := a.streams(ctx)
	if err != nil {
		return nil, now, err
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
		err := a.asked(ctx, a.admin, &adminv1.EventsRequest{Streams: wanted}, func(r *adminv1.Record) error {
			records[r.GetSequence()] = record.Model(r)
			return nil
		})
		if err != nil {
			return nil, now, err
		}
		wanted = nil
		if len(a.Names) > 0 {
			wanted = related(a.inOrder(records))
		}
	}
	t := a.inOrder(records)
	for stream, d := range gaps {
		if stream != "" {
			t.Missing.Add(d)
		}
	}
	if len(a.Names) == 0 || a.Gone {
		return t, now, nil
	}
	others := timeline.New()
	err = a.asked(ctx, a.admin, &adminv1.EventsRequest{From: end - min(end, compared)}, func(r *adminv1.Record) error {
		if r.GetSequence() > end {
			return errEnough
		}
		others.Add(record.Model(r))
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	t.Compare(others)
	return t, now, err
}

// bounds returns the moment that durations count to, and the last sequence that belongs to the
// history; of a point by time it may be later. Errors: *timeline.PointError.
func (a asking) bounds(ctx context.Context) (now time.Time, end uint64, err error) {
	stats, err := a.admin.LogStats(ctx, &adminv1.LogStatsRequest{})
	if err != nil {
		return now, 0, fmt.Errorf("ask for the event log's figures: %w", err)
	}
	end = stats.GetLastSequence()
	if a.At.IsEnd() {
		return time.Now(), end, nil
	}
	one := func(from uint64) (found timeline.Record, err error) {
		err = a.asked(ctx, a.admin, &adminv1.EventsRequest{From: from, Most: 1}, func(r *adminv1.Record) error {
			found = record.Model(r)
			return nil
		})
		return found, err
	}
	first, err := one(1)
	if err != nil {
		return now, 0, err
	}
	last := timeline.Record{Sequence: end}
	if a.At.Sequence > 0 && a.At.Sequence <= end {
		// The time is that of the record itself, or of the next one that is there.
		if last, err = one(a.At.Sequence); err != nil {
			return now, 0, err
		}
		last.Sequence, end = end, a.At.Sequence
	}
	now, err = a.At.Reached(first, last)
	return now, end, err
}

// streams are those that the names mean, or of all that has not ended; and the node's.
func (a asking) streams(ctx context.Context) ([]string, error) {
	wanted := []string{"node"}
	ask := func(what string, req *adminv1.InspectRequest) (*adminv1.InspectResponse, error) {
		found, err := a.admin.Inspect(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %w", what, err)
		}
		for _, e := range found.GetEntities() {
			wanted = append(wanted, e.GetStream())
		}
		return found, nil
	}
	if len(a.Names) == 0 {
		_, err := ask("what has not ended", &adminv1.InspectRequest{All: true})
		return wanted, err
	}
	for _, name := range a.Names {
		// What lives now need not be what had the name then.
		found, err := ask(name.String(), &adminv1.InspectRequest{Id: name.String(), Ended: a.Gone || !a.At.IsEnd()})
		switch {
		case err != nil:
			return nil, err
		case len(found.GetEntities()) > 0:
		case found.GetGone() != "" && a.Gone:
			fmt.Fprintln(a.Warnings, "stele:", found.GetGone())
		case found.GetGone() != "":
			return nil, errors.New(found.GetGone())
		case !a.Gone:
			return nil, &timeline.UnknownError{Name: name.String()}
		}
	}
	return wanted, nil
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

// inOrder is the history of some records until the point.
func (a asking) inOrder(records map[uint64]timeline.Record) *timeline.Timeline {
	t := timeline.New()
	for _, sequence := range slices.Sorted(maps.Keys(records)) {
		if !a.At.Has(sequence, records[sequence].Time) {
			break
		}
		t.Add(records[sequence])
	}
	return t
}
