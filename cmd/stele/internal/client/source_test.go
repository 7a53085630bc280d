package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// What a daemon may send, the tool takes.
func TestMessageMost(t *testing.T) {
	if messageMost != cri.MessageMost {
		t.Errorf("the tool takes %d bytes, the daemon sends %d", messageMost, cri.MessageMost)
	}
}

// daemon sends two records and a damage between them; then it follows until the caller
// leaves, or fails.
type daemon struct {
	adminv1.UnimplementedAdminServiceServer
	asked chan *adminv1.EventsRequest
	fails error
}

func (d *daemon) Events(req *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	d.asked <- req
	for _, e := range []*adminv1.EventsResponse{{Record: &adminv1.Record{Sequence: 1}}, {Damage: "record 2 is torn"}, {Record: &adminv1.Record{Sequence: 3}}} {
		if err := to.Send(e); err != nil {
			return err
		}
	}
	if req.GetFollow() {
		<-to.Context().Done()
	}
	return d.fails
}

// running starts a daemon and returns a source for it, and what it warns of.
func running(t *testing.T, d *daemon) (*Source, *strings.Builder) {
	t.Helper()
	d.asked = make(chan *adminv1.EventsRequest, 1)
	return serving(t, d)
}

func serving(t testing.TB, d adminv1.AdminServiceServer) (*Source, *strings.Builder) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	guard := cri.Guard{Logger: slog.New(slog.DiscardHandler)}
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary), grpc.StreamInterceptor(guard.Stream))
	adminv1.RegisterAdminServiceServer(server, d)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	warnings := &strings.Builder{}
	return &Source{Listen: "unix://" + path, Warnings: warnings}, warnings
}

// collect returns a function that keeps sequences, and stops at the last.
func collect(got *[]uint64, last uint64, stop func()) func(*adminv1.Record) error {
	return func(r *adminv1.Record) error {
		if *got = append(*got, r.GetSequence()); r.GetSequence() == last {
			stop()
		}
		return nil
	}
}

func TestEventsOfDaemon(t *testing.T) {
	d := &daemon{}
	from, warnings := running(t, d)
	var got []uint64
	if err := from.Events(t.Context(), 7, false, collect(&got, 0, nil)); err != nil || !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("%v, %v", got, err)
	}
	if req := <-d.asked; req.GetFrom() != 7 || req.GetFollow() {
		t.Errorf("asked for %v", req)
	}
	if warnings.String() != "stele: record 2 is torn\n" {
		t.Errorf("warned of %q", warnings)
	}
	// The user's Ctrl-C is no error.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got = nil
	if err := from.Events(ctx, 0, true, collect(&got, 3, cancel)); err != nil || !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("followed: %v, %v", got, err)
	}
	<-d.asked
	broken := errors.New("broken pipe")
	if err := from.Events(t.Context(), 0, false, func(*adminv1.Record) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a printer's error is %v", err)
	}
	<-d.asked
	from, _ = running(t, &daemon{fails: errors.New("the log is gone")})
	if err := from.Events(t.Context(), 0, false, collect(&got, 0, nil)); err == nil || !strings.Contains(err.Error(), "the log is gone") {
		t.Errorf("a daemon's error is %v", err)
	}
}

func TestEventsOfStoppedDaemon(t *testing.T) {
	root := t.TempDir()
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(root, places.EventsFile)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		_, err := log.Append(t.Context(), eventlog.Append{Stream: "node", Expected: eventlog.Version(i), Entries: []eventlog.Entry{{Type: "node.X.v1", Schema: 1}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	from := Source{Root: root}
	var got []uint64
	if err := from.Events(t.Context(), 2, false, collect(&got, 0, nil)); err != nil || !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("%v, %v", got, err)
	}
	if err := from.Events(t.Context(), 0, true, collect(&got, 0, nil)); err == nil {
		t.Error("a stopped daemon is followed")
	}
	from.Root = filepath.Join(root, "none")
	if err := from.Events(t.Context(), 0, false, collect(&got, 0, nil)); err == nil {
		t.Error("a log that is not there has events")
	}
}
