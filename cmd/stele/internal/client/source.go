package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/stele-runtime/stele/cmd/stele/internal/admin"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Source is where a tool reads from: a running daemon, or the log of a stopped one.
type Source struct {
	// Listen is the address of the daemon's socket.
	Listen string
	// Root is the root directory of a stopped daemon; empty for a running one.
	Root string
	// Warnings receives the log's damage.
	Warnings io.Writer
}

// With calls fn with a connection to the daemon.
func (s *Source) With(fn func(*grpc.ClientConn) error) error {
	conn, err := grpc.NewClient(s.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cri.MessageMost)))
	if err != nil {
		return fmt.Errorf("reach the daemon at %s: %w", s.Listen, err)
	}
	defer func() { _ = conn.Close() }() // only this process has it
	return fn(conn)
}

// WithAdmin is With for the admin service alone.
func (s *Source) WithAdmin(fn func(adminv1.AdminServiceClient) error) error {
	return s.With(func(conn *grpc.ClientConn) error { return fn(adminv1.NewAdminServiceClient(conn)) })
}

// Events calls each with the records from first on, and then with new ones if it
// follows. It returns nil when ctx ends.
func (s *Source) Events(ctx context.Context, first uint64, follow bool, each func(*adminv1.Record) error) error {
	if s.Root == "" {
		return s.WithAdmin(func(c adminv1.AdminServiceClient) error {
			return s.asked(ctx, c, &adminv1.EventsRequest{From: first, Follow: follow}, each)
		})
	}
	if follow {
		return errors.New("--follow needs a running daemon, and --root is for one that is not running")
	}
	return s.read(ctx, first, each)
}

func (s *Source) asked(ctx context.Context, c adminv1.AdminServiceClient, req *adminv1.EventsRequest, each func(*adminv1.Record) error) error {
	failed := func(err error) error { return fmt.Errorf("ask the daemon at %s for events: %w", s.Listen, err) }
	stream, err := c.Events(ctx, req)
	if err != nil {
		return failed(err)
	}
	for {
		got, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return failed(err)
		}
		if damage := got.GetDamage(); damage != "" {
			fmt.Fprintln(s.Warnings, "stele:", damage)
			continue
		}
		if err := each(got.GetRecord()); err != nil {
			return err
		}
	}
}

// last is the sequence of the newest record of a stopped daemon's log.
func (s *Source) last() (uint64, error) {
	log, err := boltlog.OpenReadOnly(filepath.Join(s.Root, config.EventsFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }() // read-only
	return uint64(log.Last()), nil
}

func (s *Source) read(ctx context.Context, first uint64, each func(*adminv1.Record) error) error {
	log, err := boltlog.OpenReadOnly(filepath.Join(s.Root, config.EventsFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // read-only
	for record, err := range log.Read(ctx, eventlog.Sequence(max(1, first))) {
		if err != nil {
			if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
				fmt.Fprintln(s.Warnings, "stele:", damage)
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := each(admin.Record(record)); err != nil {
			return err
		}
	}
	return nil
}
