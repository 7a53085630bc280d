package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// compared is how many of the log's newest records the node's percentiles are from.
const compared = 2000

// Timeline returns the history of what a name means, and the moment that its durations count
// to: now for a running daemon, the last record for a stopped one.
func (s *Source) Timeline(ctx context.Context, name timeline.Name) (*timeline.Timeline, time.Time, error) {
	if s.Root == "" {
		var t *timeline.Timeline
		err := s.WithAdmin(func(c adminv1.AdminServiceClient) (err error) {
			t, err = s.ask(ctx, c, name)
			return err
		})
		return t, time.Now(), err
	}
	t := timeline.New()
	err := s.read(ctx, 1, func(r *adminv1.Record) error {
		t.Add(entry(r))
		return nil
	})
	return t, t.Last, err
}

// Newest returns the history of the whole node in the log's newest records, and the moment
// that its durations count to, as with Timeline. What began before them is known in part.
func (s *Source) Newest(ctx context.Context, most uint64) (*timeline.Timeline, time.Time, error) {
	t := timeline.New()
	add := func(r *adminv1.Record) error {
		t.Add(entry(r))
		return nil
	}
	from := func(last uint64) uint64 { return last - min(last, most) + 1 }
	if s.Root == "" {
		err := s.WithAdmin(func(c adminv1.AdminServiceClient) error {
			stats, err := c.LogStats(ctx, &adminv1.LogStatsRequest{})
			if err != nil {
				return fmt.Errorf("ask for the event log's figures: %w", err)
			}
			return s.asked(ctx, c, &adminv1.EventsRequest{From: from(stats.GetLastSequence())}, add)
		})
		return t, time.Now(), err
	}
	last, err := s.last()
	if err == nil {
		err = s.read(ctx, from(last), add)
	}
	return t, t.Last, err
}

// ask reads only the streams that matter, so that the answer does not take longer the older
// the node is.
func (s *Source) ask(ctx context.Context, c adminv1.AdminServiceClient, name timeline.Name) (*timeline.Timeline, error) {
	found, err := c.Inspect(ctx, &adminv1.InspectRequest{Id: name.String()})
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", name, err)
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
			records[r.GetSequence()] = entry(r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		wanted = related(inOrder(records))
	}
	t := inOrder(records)
	stats, err := c.LogStats(ctx, &adminv1.LogStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the event log's figures: %w", err)
	}
	others := timeline.New()
	err = s.asked(ctx, c, &adminv1.EventsRequest{From: stats.GetLastSequence() - min(stats.GetLastSequence(), compared)}, func(r *adminv1.Record) error {
		others.Add(entry(r))
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
			streams = append(streams, "image/"+c.ImageRef)
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

// entry is a record as the model takes it.
func entry(r *adminv1.Record) timeline.Record {
	return timeline.Record{
		Sequence: r.GetSequence(), Version: r.GetVersion(), Stream: r.GetStream(), Time: r.GetTime().AsTime(), SinceBoot: r.GetSinceBoot().AsDuration(),
		BootID: r.GetBootId(), Type: r.GetType(), Schema: r.GetSchema(), Command: r.GetCommand(), Trace: r.GetTrace(), Payload: r.GetPayload(),
	}
}
