package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/projections"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// admin answers `stele events`, `stele inspect`, `stele image` and `stele monitor`.
type admin struct {
	adminv1.UnimplementedAdminServiceServer
	log     *boltlog.Log
	live    *projections.Live
	actors  *node.Node
	drivers *drivers
	pulls   *executors.Pulls
}

// Events sends records of the log.
func (a *admin) Events(req *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	from := eventlog.Sequence(max(1, req.GetFrom()))
	records := a.log.Read(to.Context(), from)
	if req.GetFollow() {
		records = a.log.Subscribe(to.Context(), from)
	}
	for record, err := range records {
		if err != nil {
			if to.Context().Err() != nil {
				return nil
			}
			damage, ok := errors.AsType[*eventlog.DamageError](err)
			if !ok {
				return status.Error(codes.DataLoss, err.Error())
			}
			if err := to.Send(&adminv1.EventsResponse{Damage: damage.Error()}); err != nil {
				return err
			}
			continue
		}
		if len(req.GetStreams()) > 0 && !slices.Contains(req.GetStreams(), string(record.Stream)) {
			continue
		}
		if err := to.Send(&adminv1.EventsResponse{Record: toRecord(record)}); err != nil {
			return err
		}
	}
	return nil
}

// Inspect tells what the daemon knows of a sandbox or a container.
func (a *admin) Inspect(ctx context.Context, req *adminv1.InspectRequest) (*adminv1.InspectResponse, error) {
	if req.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "id: is empty")
	}
	answer := &adminv1.InspectResponse{}
	for _, s := range a.live.Sandboxes() {
		if !strings.HasPrefix(string(s.State.ID), req.GetId()) && s.State.Name.Name != req.GetId() {
			continue
		}
		entity, err := toEntity("sandbox/"+string(s.State.ID), s.State, sandbox.Owed(s.State))
		if err != nil {
			return nil, err
		}
		answer.Entities = append(answer.Entities, entity)
		for _, c := range a.live.Containers() {
			if c.State.Sandbox == s.State.ID {
				entity, err := toEntity("container/"+string(c.State.ID), c.State, container.Owed(c.State))
				if err != nil {
					return nil, err
				}
				answer.Entities = append(answer.Entities, entity)
			}
		}
	}
	for _, c := range a.live.Containers() {
		if strings.HasPrefix(string(c.State.ID), req.GetId()) {
			entity, err := toEntity("container/"+string(c.State.ID), c.State, container.Owed(c.State))
			if err != nil {
				return nil, err
			}
			answer.Entities = append(answer.Entities, entity)
		}
	}
	if len(answer.Entities) == 0 {
		var err error
		if answer.Entities, err = ended(ctx, a.log, req.GetId()); err != nil {
			return nil, err
		}
	}
	if len(answer.Entities) == 0 {
		return nil, status.Errorf(codes.NotFound, "id: the log has no sandbox or container with the id or the pod name %q", req.GetId())
	}
	return answer, nil
}

// LogStats tells how the event log does.
func (a *admin) LogStats(context.Context, *adminv1.LogStatsRequest) (*adminv1.LogStatsResponse, error) {
	s := a.log.Stats()
	answer := &adminv1.LogStatsResponse{
		LastSequence: uint64(a.log.Last()), Records: s.Records, Commits: s.Commits, CommitTime: durationpb.New(s.CommitTime),
		Appends: s.Appends, WaitTime: durationpb.New(s.WaitTime), HeldTime: durationpb.New(a.actors.Held()),
	}
	if err := a.log.Health(); err != nil {
		answer.Problem = err.Error()
	}
	return answer, nil
}

// owed is what all machines' effects have in common.
type owed interface {
	Key() string
	NotBefore() time.Time
}

func toEntity[F owed](stream string, state any, effects []F) (*adminv1.Entity, error) {
	shown, err := redact.State(state)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "encode the state of %s: %v", stream, err)
	}
	entity := &adminv1.Entity{Stream: stream, StateJson: string(shown)}
	for _, f := range effects {
		o := &adminv1.Owed{Effect: f.Key()}
		if !f.NotBefore().IsZero() {
			o.NotBefore = timestamppb.New(f.NotBefore())
		}
		entity.Owed = append(entity.Owed, o)
	}
	return entity, nil
}

func toRecord(r eventlog.Record) *adminv1.Record {
	return &adminv1.Record{
		Sequence: uint64(r.Sequence), Stream: string(r.Stream), Version: uint64(r.Version),
		Time: timestamppb.New(r.Time), SinceBoot: durationpb.New(r.SinceBoot), BootId: r.BootID,
		Type: r.Type, Schema: r.Schema, Command: r.Cause.Command, Cause: uint64(r.Cause.Event),
		Trace: r.Cause.Trace, Payload: r.Payload,
	}
}

// shortStream is a stream's name as people read it: with the beginning of the id.
func shortStream(stream string) string {
	kind, name, has := strings.Cut(stream, "/")
	if !has {
		return stream
	}
	return fmt.Sprintf("%s/%.12s", kind, cmp.Or(name, "?"))
}
