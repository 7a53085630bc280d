package client

import (
	"context"
	"fmt"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// BackupLog copies the log of a running daemon, or of a stopped one, to a new file. The path is
// absolute, and one of the node.
func (s *Source) BackupLog(ctx context.Context, path string) (answer *adminv1.BackupLogResponse, err error) {
	if !s.Live() {
		return s.backupRoot(ctx, path)
	}
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		if answer, err = c.BackupLog(ctx, &adminv1.BackupLogRequest{Path: path}); err != nil {
			return fmt.Errorf("have the daemon at %s back up its log: %w", s.Listen, err)
		}
		return nil
	})
	return answer, err
}

// VerifyLog verifies the log of a running daemon, or of a stopped one.
func (s *Source) VerifyLog(ctx context.Context) (answer *adminv1.VerifyLogResponse, err error) {
	if !s.Live() {
		return VerifyFile(ctx, s.rootLog())
	}
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		if answer, err = c.VerifyLog(ctx, &adminv1.VerifyLogRequest{}); err != nil {
			return fmt.Errorf("have the daemon at %s verify its log: %w", s.Listen, err)
		}
		return nil
	})
	return answer, err
}

// CompactLog gives the unused space of the log of a running daemon, or of a stopped one, back.
func (s *Source) CompactLog(ctx context.Context) (answer *adminv1.CompactLogResponse, err error) {
	if !s.Live() {
		return compactFile(ctx, s.rootLog())
	}
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		if answer, err = c.CompactLog(ctx, &adminv1.CompactLogRequest{}); err != nil {
			return fmt.Errorf("have the daemon at %s compact its log: %w", s.Listen, err)
		}
		return nil
	})
	return answer, err
}

// LogStats returns figures of the log of a running daemon, or, as far as the file has them, of a
// stopped one.
func (s *Source) LogStats(ctx context.Context) (answer *adminv1.LogStatsResponse, err error) {
	if !s.Live() {
		return FileStats(ctx, s.rootLog())
	}
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		if answer, err = c.LogStats(ctx, &adminv1.LogStatsRequest{}); err != nil {
			return fmt.Errorf("ask the daemon at %s for its log's figures: %w", s.Listen, err)
		}
		return nil
	})
	return answer, err
}
