package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"google.golang.org/grpc"

	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Events sends the log's records, and continues with new ones if asked to follow.
func (s *Service) Events(req *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	from, sent := eventlog.Sequence(max(1, req.GetFrom())), uint64(0)
	records := s.parts.Log.Read(to.Context(), from)
	switch {
	case req.GetFollow():
		records = s.parts.Log.Subscribe(to.Context(), from)
	case len(req.GetStreams()) > 0:
		records = s.streams(to.Context(), req.GetStreams(), from)
	}
	for r, err := range records {
		if err != nil {
			if to.Context().Err() != nil {
				return nil
			}
			if gap, ok := errors.AsType[*eventlog.GapError](err); ok {
				if gap.Last < from {
					continue
				}
				if err := to.Send(&adminv1.EventsResponse{Gap: record.Gap(gap)}); err != nil {
					return err
				}
				continue
			}
			damage, ok := errors.AsType[*eventlog.DamageError](err)
			if !ok {
				return fmt.Errorf("read the event log: %w", err)
			}
			if err := to.Send(&adminv1.EventsResponse{Damage: damage.Error()}); err != nil {
				return err
			}
			continue
		}
		if len(req.GetStreams()) > 0 && !slices.Contains(req.GetStreams(), string(r.Stream)) {
			continue
		}
		if err := to.Send(&adminv1.EventsResponse{Record: record.Message(r)}); err != nil {
			return err
		}
		if sent++; sent == req.GetMost() {
			return nil
		}
	}
	return nil
}

// streams yields the records of streams in the order of their sequence, without a look at
// the rest of the log.
func (s *Service) streams(ctx context.Context, names []string, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		var all []eventlog.Record
		for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
			for record, err := range s.parts.Log.ReadStream(ctx, eventlog.Stream(name), 1) {
				if err != nil {
					if !yield(eventlog.Record{}, err) {
						return
					}
					continue
				}
				if record.Sequence >= from {
					all = append(all, record)
				}
			}
		}
		slices.SortFunc(all, func(a, b eventlog.Record) int { return cmp.Compare(a.Sequence, b.Sequence) })
		for _, record := range all {
			if !yield(record, nil) {
				return
			}
		}
	}
}
