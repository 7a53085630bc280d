// Command health serves the gRPC health protocol on an address, as SERVING once a file exists:
//
//	health ADDRESS FILE
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("got %q, want ADDRESS FILE", args)
	}
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ConnectionTimeout(20 * time.Second))
	grpc_health_v1.RegisterHealthServer(server, checker{file: args[1]})
	return server.Serve(listener)
}

type checker struct {
	grpc_health_v1.UnimplementedHealthServer
	file string
}

func (c checker) Check(_ context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if request.Service != "startup" {
		return nil, status.Errorf(codes.NotFound, "no service %q", request.Service)
	}
	answer := &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}
	if _, err := os.Stat(c.file); err == nil {
		answer.Status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	return answer, nil
}
