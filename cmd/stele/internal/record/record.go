// Package record converts records of the event log between the log's form, the message's and
// the model's. It does nothing else.
package record

import (
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Message is a record of the log as a message.
func Message(r eventlog.Record) *adminv1.Record {
	return &adminv1.Record{
		Sequence: uint64(r.Sequence), Stream: string(r.Stream), Version: uint64(r.Version),
		Time: timestamppb.New(r.Time), SinceBoot: durationpb.New(r.SinceBoot), BootId: r.BootID,
		Type: r.Type, Schema: r.Schema, Command: r.Cause.Command, Cause: uint64(r.Cause.Event),
		Trace: r.Cause.Trace, Payload: r.Payload,
	}
}

// Gap is a notice of removed records as a message.
func Gap(g *eventlog.GapError) *adminv1.Gap {
	return &adminv1.Gap{
		First: uint64(g.First), Last: uint64(g.Last), Records: g.Records(), Rules: g.Rules,
		Since: timestamppb.New(g.Since), Until: timestamppb.New(g.Until), Stream: string(g.Stream),
	}
}

// Model is a message as the model takes it.
func Model(r *adminv1.Record) timeline.Record {
	return timeline.Record{
		Sequence: r.GetSequence(), Version: r.GetVersion(), Stream: r.GetStream(), Time: r.GetTime().AsTime(), SinceBoot: r.GetSinceBoot().AsDuration(),
		BootID: r.GetBootId(), Type: r.GetType(), Schema: r.GetSchema(), Command: r.GetCommand(), Trace: r.GetTrace(), Payload: r.GetPayload(),
	}
}

// Dropped is a gap as the model takes it.
func Dropped(g *adminv1.Gap) timeline.Dropped {
	d := timeline.Dropped{First: g.GetFirst(), Last: g.GetLast(), Records: g.GetRecords(), Rules: g.GetRules(), Stream: g.GetStream()}
	// The zero time comes as the year 1.
	if since := g.GetSince().AsTime(); since.Unix() > 0 {
		d.Since = since
	}
	if until := g.GetUntil().AsTime(); until.Unix() > 0 {
		d.Until = until
	}
	return d
}
