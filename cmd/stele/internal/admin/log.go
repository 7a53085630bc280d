package admin

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/cmd/stele/internal/verify"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// BackupLog copies the event log to a new file of the node.
func (s *Service) BackupLog(ctx context.Context, req *adminv1.BackupLogRequest) (*adminv1.BackupLogResponse, error) {
	const op = "back up the event log"
	path := req.GetPath()
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fault.New(fault.Invalid, op, "", "path: %q is not an absolute, clean path", path)
	}
	last := s.parts.Log.Last()
	switch err := s.parts.Log.Backup(ctx, path); {
	case errors.Is(err, fs.ErrExist):
		return nil, fault.New(fault.Exists, op, "", "path: %s, or %s.new, exists already", path, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotFound, op, "", "path: the directory of %s does not exist", path)
	case errors.Is(err, eventlog.ErrUnavailable):
		return nil, fault.New(fault.Unavailable, op, "", "%v", err)
	case err != nil:
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &adminv1.BackupLogResponse{Bytes: info.Size(), LastSequence: uint64(last)}, nil
}

// VerifyLog reads the whole event log.
func (s *Service) VerifyLog(ctx context.Context, _ *adminv1.VerifyLogRequest) (*adminv1.VerifyLogResponse, error) {
	return verify.Run(ctx, s.parts.Log)
}

// LogStats returns figures of the event log.
func (s *Service) LogStats(ctx context.Context, _ *adminv1.LogStatsRequest) (*adminv1.LogStatsResponse, error) {
	stats, backups := s.parts.Log.Stats(), s.parts.Backups.Status()
	answer := &adminv1.LogStatsResponse{
		LastSequence: uint64(s.parts.Log.Last()), Records: stats.Records, Commits: stats.Commits, CommitTime: durationpb.New(stats.CommitTime),
		Appends: stats.Appends, WaitTime: durationpb.New(stats.WaitTime), HeldTime: durationpb.New(s.parts.Actors.Held()),
		Backups: backups.Paths, BackupProblem: backups.Problem, SetAside: backups.SetAside, PassedOver: s.parts.Views.PassedOver(),
	}
	// While the log cannot be read, the rest counts.
	if usage, err := s.parts.Log.Usage(ctx); err == nil {
		answer.Bytes, answer.FreeBytes, answer.RecordBytes = usage.Bytes, usage.Free, usage.RecordBytes
		answer.KeptRecords, answer.FirstSequence, answer.Removed = usage.Records, uint64(usage.First), usage.Removed
	} else {
		answer.Problem = err.Error()
	}
	if err := s.parts.Log.Health(); err != nil {
		answer.Problem = err.Error()
	}
	return answer, nil
}

// CompactLog makes the log's file as small as it can be.
func (s *Service) CompactLog(ctx context.Context, _ *adminv1.CompactLogRequest) (*adminv1.CompactLogResponse, error) {
	before, err := s.parts.Log.Usage(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.parts.Log.Compact(ctx); err != nil {
		if errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, eventlog.ErrNoRoom) {
			return nil, fault.New(fault.Unavailable, "compact the event log", "", "%v", err)
		}
		return nil, err
	}
	after, err := s.parts.Log.Usage(ctx)
	return &adminv1.CompactLogResponse{Before: before.Bytes, After: after.Bytes}, err
}
