package admin

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

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
