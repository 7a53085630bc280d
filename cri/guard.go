package cri

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/stele-runtime/stele/actors/fault"
)

// MessageMost is the largest gRPC message in bytes, in both directions; the kubelet's
// client has the same limit.
const MessageMost = 16 << 20

// Guard wraps every RPC on the socket: errors become gRPC statuses, and a panic fails
// only its call.
type Guard struct{ Logger *slog.Logger }

// Unary is a grpc.UnaryServerInterceptor.
func (g Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	defer func() { err = Status(g.recovered(recover(), info.FullMethod, err)) }()
	return handler(traced(ctx), req)
}

// traced is a call's context with the trace that its client says it belongs to, in the metadata
// "traceparent" of W3C's Trace Context. The kubelet sends it when it has a tracing endpoint.
func traced(ctx context.Context) context.Context {
	sent, _ := metadata.FromIncomingContext(ctx)
	parent := sent.Get("traceparent")
	if len(parent) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent[0]})
}

// Stream is a grpc.StreamServerInterceptor.
func (g Guard) Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() { err = Status(g.recovered(recover(), info.FullMethod, err)) }()
	return handler(service, stream)
}

// guarded runs a part of a call that has a goroutine of its own.
func (g Guard) guarded(method string, part func() error) (err error) {
	defer func() { err = g.recovered(recover(), method, err) }()
	return part()
}

// recovered returns the error of a call whose panic, if any, was r.
func (g Guard) recovered(r any, method string, err error) error {
	if r == nil {
		return err
	}
	g.Logger.Error("RPC panicked", "method", method, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	return fault.New(fault.Internal, "serve", method, "the daemon panicked: %v; its log has the stack", r)
}
