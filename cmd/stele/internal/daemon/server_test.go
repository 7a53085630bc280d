package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// clerk is a service whose calls end when a test wants it.
type clerk struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	// began has an element for each call that has begun.
	began chan string
	// finish ends Version, which does not look at its context; Status does.
	finish chan struct{}
}

func (c *clerk) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	c.began <- "version"
	<-c.finish
	return &runtimeapi.VersionResponse{Version: "done"}, nil
}

func (c *clerk) Status(ctx context.Context, _ *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	c.began <- "status"
	<-ctx.Done()
	return nil, ctx.Err()
}

func (c *clerk) GetContainerEvents(_ *runtimeapi.GetEventsRequest, to grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	c.began <- "events"
	<-to.Context().Done()
	return fault.New(fault.Unavailable, "follow", "", "the daemon ends")
}

// office is a server that runs, with a clerk and a client.
type office struct {
	*Server
	clerk  *clerk
	client runtimeapi.RuntimeServiceClient
	// stop ends Run; ran has what it returned.
	stop context.CancelFunc
	ran  chan error
}

func newOffice(t *testing.T) *office {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "stele.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{Server: NewServer(listener, quiet), clerk: &clerk{began: make(chan string, 8), finish: make(chan struct{})}, ran: make(chan error, 1)}
	runtimeapi.RegisterRuntimeServiceServer(o, o.clerk)
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	go func() { o.ran <- o.Run(ctx) }()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		conn.Close()
	})
	o.client = runtimeapi.NewRuntimeServiceClient(conn)
	return o
}

// call makes a call in the background and returns once it has begun.
func (o *office) call(t *testing.T, call func(context.Context) error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call(context.Background()) }()
	ends(t, "the beginning of a call", o.clerk.began)
	return done
}

func (o *office) version(ctx context.Context) error {
	answer, err := o.client.Version(ctx, &runtimeapi.VersionRequest{})
	if err == nil && answer.GetVersion() != "done" {
		return errors.New("another answer")
	}
	return err
}

func (o *office) status(ctx context.Context) error {
	_, err := o.client.Status(ctx, &runtimeapi.StatusRequest{})
	return err
}

func (o *office) events(ctx context.Context) error {
	stream, err := o.client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// drain begins the end; the channel is closed when Drain has returned.
func (o *office) drain(t *testing.T, patience context.Context) <-chan struct{} {
	t.Helper()
	o.stop()
	if err := ends(t, "Run", o.ran); err != nil {
		t.Error(err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		o.Drain(patience)
	}()
	return drained
}

// A stream that never ends is canceled at once, whatever the patience; a call under way
// gets its answer.
func TestDrainWaitsForCallsAndNotForStreams(t *testing.T) {
	o := newOffice(t)
	events, version := o.call(t, o.events), o.call(t, o.version)
	drained := o.drain(t, context.Background())
	if err := ends(t, "the stream", events); err == nil {
		t.Error("the stream ended without a reason")
	}
	select {
	case <-drained:
		t.Error("a call is under way, but Drain has returned")
	case err := <-version:
		t.Errorf("a call ended early: %v", err)
	default:
	}
	close(o.clerk.finish)
	if err := ends(t, "the call", version); err != nil {
		t.Errorf("a call that was under way: %v", err)
	}
	ends(t, "Drain", drained)
	if err := o.Await(context.Background()); err != nil {
		t.Error(err)
	}
	if err := o.status(t.Context()); err == nil {
		t.Error("a call after the end has an answer")
	}
}

// After patience, all calls fail. The handler of one that ignores its context is awaited
// separately.
func TestDrainIsBounded(t *testing.T) {
	o := newOffice(t)
	status, version := o.call(t, o.status), o.call(t, o.version)
	patience, over := context.WithCancel(context.Background())
	drained := o.drain(t, patience)
	over()
	ends(t, "Drain", drained)
	for name, call := range map[string]<-chan error{"status": status, "version": version} {
		if err := ends(t, name, call); err == nil {
			t.Errorf("%s has an answer", name)
		}
	}
	if err := o.Await(patience); !errors.Is(err, context.Canceled) {
		t.Errorf("a handler runs, and Await says %v", err)
	}
	close(o.clerk.finish)
	if err := o.Await(context.Background()); err != nil {
		t.Error(err)
	}
}

// The order is streams, calls, record, actors. A handler that waits for an actor ends with the
// actors.
func TestEnding(t *testing.T) {
	for _, failed := range []error{nil, errors.New("the log is full")} {
		o := newOffice(t)
		version := o.call(t, o.version)
		o.stop()
		ends(t, "Run", o.ran)
		asked := &trace{}
		ending := Ending{
			Server: o.Server, Streams: streams{asked}, Logger: quiet, Within: 100 * time.Millisecond,
			Actors: &actors{trace: asked, host: failed, closed: func() { close(o.clerk.finish) }},
		}
		ended := make(chan error, 1)
		go func() { ended <- ending.Run() }()
		if err := ends(t, "the ending", ended); !errors.Is(err, failed) {
			t.Errorf("ended with %v, want %v", err, failed)
		}
		if err := ends(t, "the call", version); err == nil {
			t.Error("a call that was broken off has an answer")
		}
		asked.expect(t, "end streams", "record host.StopDaemon", "close")
		ends(t, "the handler", o.drained)
	}
}

// A failed socket ends the daemon, with the reason.
func TestSocketFails(t *testing.T) {
	o := newOffice(t)
	o.listener.Close()
	if err := ends(t, "Run", o.ran); err == nil {
		t.Error("no error")
	}
	o.Drain(t.Context())
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "stele.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	first.Close()
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("in place of an old socket: %v", err)
	}
	second.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil {
		t.Error("a file was taken for an old socket")
	}
	if content, err := os.ReadFile(file); string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}
}

func TestMakeDirs(t *testing.T) {
	root, state := filepath.Join(t.TempDir(), "a", "root"), filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := MakeDirs(root, state); err != nil {
		t.Fatal(err)
	}
	var modes []fs.FileMode
	for _, dir := range []string{root, filepath.Join(state, "sandboxes"), filepath.Join(state, "storage"), state} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		modes = append(modes, info.Mode().Perm())
	}
	if !slices.Equal(modes, []fs.FileMode{0o700, 0o700, 0o700, 0o711}) {
		t.Errorf("modes are %o", modes)
	}
}
