package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"

	"github.com/stele-runtime/stele/cri"
)

// Server serves the daemon's socket.
type Server struct {
	*grpc.Server
	listener net.Listener
	// streaming is canceled when Drain begins, for streams that never end.
	streaming  context.Context
	endStreams context.CancelFunc
	// drained is closed when all handlers have returned.
	drained chan struct{}
}

// NewServer returns a server without services.
func NewServer(listener net.Listener, logger *slog.Logger) *Server {
	s := &Server{listener: listener, drained: make(chan struct{})}
	s.streaming, s.endStreams = context.WithCancel(context.Background())
	guard := cri.Guard{Logger: logger}
	s.Server = grpc.NewServer(
		grpc.MaxRecvMsgSize(cri.MessageMost), grpc.MaxSendMsgSize(cri.MessageMost), grpc.ForceServerCodecV2(newCodec()),
		grpc.UnaryInterceptor(guard.Unary), grpc.ChainStreamInterceptor(guard.Stream, s.stream),
	)
	return s
}

// Run serves until ctx is done or the socket fails.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(s.listener) }() // ends with Drain
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
}

// Drain refuses new calls, ends the streams, and waits for the calls under way until
// patience is done; then it closes their connections. Await waits for handlers that
// continue without a caller.
func (s *Server) Drain(patience context.Context) {
	s.endStreams()
	go func() {
		s.GracefulStop() // waits for every handler
		close(s.drained)
	}()
	select {
	case <-s.drained:
	case <-patience.Done():
		s.Stop()
	}
}

// Await waits, after Drain, until all handlers have returned; or returns ctx's error.
func (s *Server) Await(ctx context.Context) error {
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stream also cancels a stream's context when Drain begins.
func (s *Server) stream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.streaming, func() { cancel(cri.Ending) })()
	return handler(service, &endingStream{stream, ctx})
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *endingStream) Context() context.Context { return s.ctx }

// Listen makes the socket and replaces one that a dead daemon left: the event log's lock
// excludes another daemon on this root.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("listen: %s exists and is not a socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	// At no moment may another user be able to connect.
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}
