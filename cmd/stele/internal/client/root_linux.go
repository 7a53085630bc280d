package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	"github.com/stele-runtime/stele/cmd/stele/internal/verify"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// read reads the log of a stopped daemon.
func (s *Source) read(ctx context.Context, first uint64, each func(*adminv1.Record) error) error {
	log, err := boltlog.OpenReadOnly(filepath.Join(s.Root, places.EventsFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // read-only
	var removed removals
	defer removed.say(s.Warnings)
	for r, err := range log.Read(ctx, eventlog.Sequence(max(1, first))) {
		if err != nil {
			if gap, ok := errors.AsType[*eventlog.GapError](err); ok {
				if s.dropped != nil {
					s.dropped(record.Dropped(record.Gap(gap)))
				} else {
					removed.add(record.Gap(gap))
				}
				continue
			}
			if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
				fmt.Fprintln(s.Warnings, "stele:", damage)
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := each(record.Message(r)); err != nil {
			return err
		}
	}
	return nil
}

// lastOfRoot is the sequence of the newest record of a stopped daemon's log.
func (s *Source) lastOfRoot() (uint64, error) {
	log, err := boltlog.OpenReadOnly(filepath.Join(s.Root, places.EventsFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }() // read-only
	return uint64(log.Last()), nil
}

// rootLog is the path of a stopped daemon's log.
func (s *Source) rootLog() string { return filepath.Join(s.Root, places.EventsFile) }

// backupRoot copies a stopped daemon's log to a new file.
func (s *Source) backupRoot(ctx context.Context, path string) (*adminv1.BackupLogResponse, error) {
	log, err := boltlog.OpenReadOnly(s.rootLog())
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // read-only
	if err := log.Backup(ctx, path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &adminv1.BackupLogResponse{Bytes: info.Size(), LastSequence: uint64(log.Last())}, nil
}

// VerifyFile verifies a log that no daemon has open.
func VerifyFile(ctx context.Context, path string) (*adminv1.VerifyLogResponse, error) {
	log, err := boltlog.OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // read-only
	return verify.Run(ctx, log)
}

// FileStats returns figures of a log that no daemon has open.
func FileStats(ctx context.Context, path string) (*adminv1.LogStatsResponse, error) {
	log, err := boltlog.OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // read-only
	usage, err := log.Usage(ctx)
	return &adminv1.LogStatsResponse{
		LastSequence: uint64(log.Last()), FirstSequence: uint64(usage.First), KeptRecords: usage.Records,
		Bytes: usage.Bytes, FreeBytes: usage.Free, RecordBytes: usage.RecordBytes, Removed: usage.Removed,
	}, err
}

// compactFile compacts a log that no daemon has open.
func compactFile(ctx context.Context, path string) (*adminv1.CompactLogResponse, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err // and do not make one
	}
	log, err := boltlog.Open(boltlog.Options{Path: path})
	if err != nil {
		return nil, err
	}
	before, err := log.Usage(ctx)
	if err == nil {
		err = log.Compact(ctx)
	}
	var after eventlog.Usage
	if err == nil {
		after, err = log.Usage(ctx)
	}
	return &adminv1.CompactLogResponse{Before: before.Bytes, After: after.Bytes}, errors.Join(err, log.Close())
}
