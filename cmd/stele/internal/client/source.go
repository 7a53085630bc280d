package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/cmd/stele/internal/bundle"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// messageMost is how long a message of the daemon may be, in bytes; its own limit is the same.
const messageMost = 16 << 20

// Source is where a tool reads from: a running daemon, the log of a stopped one, or a file
// that was exported.
type Source struct {
	// Listen is the address of the daemon's socket.
	Listen string
	// Root is the root directory of a stopped daemon; empty for a running one.
	Root string
	// Bundle is a file of stele log export; empty for none.
	Bundle string
	// Warnings receives the log's damage, and what was removed from it.
	Warnings io.Writer
	// dropped receives gaps instead, if it is set.
	dropped func(timeline.Dropped)
}

// Live reports whether the source is a running daemon.
func (s *Source) Live() bool { return s.Root == "" && s.Bundle == "" }

// With calls fn with a connection to the daemon.
func (s *Source) With(fn func(*grpc.ClientConn) error) error {
	conn, err := grpc.NewClient(s.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMost)))
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
	switch {
	case s.Live():
		return s.WithAdmin(func(c adminv1.AdminServiceClient) error {
			return s.asked(ctx, c, &adminv1.EventsRequest{From: first, Follow: follow}, each)
		})
	case follow:
		return errors.New("--follow needs a running daemon; --root and --bundle are for what is over")
	case s.Bundle != "":
		return s.bundled(ctx, first, each)
	}
	return s.read(ctx, first, each)
}

// EventsOf calls each with the records of pods and containers of a running daemon, without a look
// at the rest of its log. It does nothing and returns false if one of the names is none of theirs,
// nor a stream that everybody knows.
func (s *Source) EventsOf(ctx context.Context, names []string, each func(*adminv1.Record) error) (known bool, err error) {
	err = s.WithAdmin(func(c adminv1.AdminServiceClient) error {
		var streams []string
		for _, name := range names {
			if name == "node" { // and what else is called so
				streams = append(streams, name)
			}
			if _, err := timeline.ParseName(name); err != nil {
				return nil
			}
			found, err := c.Inspect(ctx, &adminv1.InspectRequest{Id: name, Ended: true})
			switch {
			case err != nil:
				return fmt.Errorf("inspect %s: %w", name, err)
			case found.GetGone() != "":
				fmt.Fprintln(s.Warnings, "stele:", found.GetGone())
			case len(found.GetEntities()) == 0 && name != "node":
				return nil
			}
			for _, e := range found.GetEntities() {
				streams = append(streams, e.GetStream())
			}
		}
		known = true
		return s.asked(ctx, c, &adminv1.EventsRequest{Streams: streams}, each)
	})
	return known, err
}

// First returns the first record of a running daemon's stream, nil if it cannot be read.
func (s *Source) First(ctx context.Context, stream string) (first *adminv1.Record) {
	_ = s.WithAdmin(func(c adminv1.AdminServiceClient) error { // the caller does without
		return s.asked(ctx, c, &adminv1.EventsRequest{Streams: []string{stream}, Most: 1}, func(r *adminv1.Record) error {
			first = r
			return nil
		})
	})
	return first
}

// Info returns the info of a running daemon's status, JSON by name.
func (s *Source) Info(ctx context.Context) (info map[string]string, err error) {
	err = s.With(func(conn *grpc.ClientConn) error {
		status, err := runtimeapi.NewRuntimeServiceClient(conn).Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
		if err != nil {
			return fmt.Errorf("ask the daemon at %s for its status: %w", s.Listen, err)
		}
		info = status.GetInfo()
		return nil
	})
	return info, err
}

// errEnough ends a reading that has all it needs.
var errEnough = errors.New("enough was read")

// Until calls each with the records until a point, and returns the moment that durations
// count to there. Errors: *timeline.PointError.
func (s *Source) Until(ctx context.Context, to timeline.Point, each func(*adminv1.Record) error) (time.Time, error) {
	return s.until(ctx, 1, to, each)
}

func (s *Source) until(ctx context.Context, from uint64, to timeline.Point, each func(*adminv1.Record) error) (time.Time, error) {
	var first, last timeline.Record
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := s.Events(ctx, from, false, func(r *adminv1.Record) error {
		if first.Sequence == 0 {
			first = record.Model(r)
		}
		if !to.Has(r.GetSequence(), r.GetTime().AsTime()) {
			return errEnough
		}
		last = record.Model(r)
		return each(r)
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && !errors.Is(err, errEnough) {
		return time.Time{}, err
	}
	if errors.Is(err, errEnough) && to.Sequence > last.Sequence {
		last.Sequence = to.Sequence // it was never written, or is damaged
	}
	now, err := to.Reached(first, last)
	if to.IsEnd() && s.Live() {
		now = time.Now()
	}
	return now, err
}

func (s *Source) asked(ctx context.Context, c adminv1.AdminServiceClient, req *adminv1.EventsRequest, each func(*adminv1.Record) error) error {
	failed := func(err error) error { return fmt.Errorf("ask the daemon at %s for events: %w", s.Listen, err) }
	ctx, cancel := context.WithCancel(ctx) // ends the stream if each has enough
	defer cancel()
	stream, err := c.Events(ctx, req)
	if err != nil {
		return failed(err)
	}
	var removed removals
	defer removed.say(s.Warnings)
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
		if gap := got.GetGap(); gap != nil {
			if s.dropped != nil {
				s.dropped(record.Dropped(gap))
			} else {
				removed.add(gap)
			}
			continue
		}
		if err := each(got.GetRecord()); err != nil {
			return err
		}
	}
}

func (s *Source) bundled(ctx context.Context, first uint64, each func(*adminv1.Record) error) error {
	file, err := bundle.Open(s.Bundle)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read-only
	if d := file.Manifest.Dropped; d != "" {
		fmt.Fprintln(s.Warnings, "stele: not all was in the log any more when this file was made:", d)
	}
	return file.Records(func(r *adminv1.Record) error {
		if r.GetSequence() < first || ctx.Err() != nil {
			return ctx.Err()
		}
		return each(r)
	})
}
