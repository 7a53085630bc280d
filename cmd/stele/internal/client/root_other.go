//go:build !linux

package client

import (
	"context"
	"errors"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// errRoot: a daemon's log is read with Linux's locks.
var errRoot = errors.New("--root: a daemon's directory can be read on Linux; make a file of it there with stele log export, and open that with --bundle")

func (s *Source) read(context.Context, uint64, func(*adminv1.Record) error) error { return errRoot }

func verifyRoot(context.Context, string) (Verdict, error) { return Verdict{}, errRoot }

func (s *Source) lastOfRoot() (uint64, error) { return 0, errRoot }

func (s *Source) rootLog() string { return s.Root }

func (s *Source) backupRoot(context.Context, string) (*adminv1.BackupLogResponse, error) {
	return nil, errRoot
}

// VerifyFile verifies a log that no daemon has open, on Linux.
func VerifyFile(context.Context, string) (*adminv1.VerifyLogResponse, error) { return nil, errRoot }

// FileStats returns figures of a log that no daemon has open, on Linux.
func FileStats(context.Context, string) (*adminv1.LogStatsResponse, error) { return nil, errRoot }

func compactFile(context.Context, string) (*adminv1.CompactLogResponse, error) { return nil, errRoot }
