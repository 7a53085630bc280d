package cri

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// unsound panics in every call, until it is mended.
type unsound struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	mended bool
}

func (u *unsound) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	if !u.mended {
		panic("in Version")
	}
	return &runtimeapi.VersionResponse{Version: "well"}, nil
}

func (u *unsound) GetContainerEvents(*runtimeapi.GetEventsRequest, grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	if !u.mended {
		panic(errors.New("in a stream"))
	}
	return fault.New(fault.NotFound, "follow", "", "no events")
}

// A panic in any RPC, unary or stream, fails that call and is logged with its stack; the
// server and the connection continue.
func TestPanicCostsOneCall(t *testing.T) {
	var log strings.Builder
	guard := Guard{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary), grpc.StreamInterceptor(guard.Stream))
	service := &unsound{}
	runtimeapi.RegisterRuntimeServiceServer(server, service)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///guard", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	unary := func() error {
		_, err := client.Version(t.Context(), &runtimeapi.VersionRequest{})
		return err
	}
	stream := func() error {
		events, err := client.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
		if err == nil {
			_, err = events.Recv()
		}
		return err
	}
	for _, c := range []struct {
		call   func() error
		method string
		panics string
	}{
		{unary, "/runtime.v1.RuntimeService/Version", "in Version"},
		{stream, "/runtime.v1.RuntimeService/GetContainerEvents", "in a stream"},
	} {
		want := "serve " + c.method + ": the daemon panicked: " + c.panics + "; its log has the stack"
		if err := c.call(); status.Code(err) != codes.Internal || status.Convert(err).Message() != want {
			t.Errorf("the caller got %v, want %s", err, want)
		}
		// The handler logs before it answers.
		if text := log.String(); !strings.Contains(text, c.method) || !strings.Contains(text, c.panics) || !strings.Contains(text, "guard_test.go") {
			t.Errorf("logged is %s", text)
		}
	}
	service.mended = true
	if err := unary(); err != nil {
		t.Errorf("after the panics: %v", err)
	}
	if err := stream(); status.Code(err) != codes.NotFound {
		t.Errorf("a stream's fault is %v", err)
	}
}
