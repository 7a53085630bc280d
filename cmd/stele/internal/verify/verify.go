// Package verify reads a whole event log and says what is damaged, and which records this version
// of the program cannot read. It is what `stele log verify` does, for a running daemon's log and
// for a file. It changes nothing, and must not know where a log comes from.
package verify

import (
	"context"
	"errors"
	"iter"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Log is the log.
type Log interface {
	Verify(ctx context.Context) (eventlog.Report, error)
	Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error]
}

// Run verifies a log. Damage is in the answer; an error says why it could not finish.
func Run(ctx context.Context, log Log) (*adminv1.VerifyLogResponse, error) {
	report, err := log.Verify(ctx)
	if err != nil {
		return nil, err
	}
	answer := &adminv1.VerifyLogResponse{
		Records: report.Records, Removed: report.Removed, Streams: report.Streams, Checkpoints: report.Checkpoints,
		FirstSequence: uint64(report.First), LastSequence: uint64(report.Last), Bytes: report.Bytes, Damaged: report.Damaged,
	}
	for _, d := range report.Damage {
		answer.Damage = append(answer.Damage, d.Error())
	}
	for r, err := range log.Read(ctx, 1) {
		if _, damaged := errors.AsType[*eventlog.DamageError](err); damaged {
			continue // the report has it
		}
		if errors.Is(err, eventlog.ErrRemoved) {
			continue // and that
		}
		if err != nil {
			// Pages that are damaged end a reading; the report has them.
			if !report.OK() && errors.Is(err, eventlog.ErrCorrupt) {
				break
			}
			return nil, err
		}
		switch err := codec.Check(r.Type, r.Schema, r.Payload); {
		case codec.CanSkip(err):
			answer.PassedOver++
		case err != nil:
			answer.Unreadable++
		}
	}
	return answer, nil
}
