package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cri/streaming"
)

// maxPorts bounds the ports of a request. Clients that forward more name them when they
// come.
const maxPorts = 100

// PortForward returns a URL at which a client is connected to ports on a pod's loopback.
func (s streamService) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if len(req.GetPort()) > maxPorts {
		return nil, invalid("port", "has %d values, and at most %d are possible", len(req.GetPort()), maxPorts)
	}
	var ports []uint16
	for i, port := range req.GetPort() {
		if port < 1 || port > 65535 {
			return nil, invalid("port", "[%d]: %d is not a port", i, port)
		}
		ports = append(ports, uint16(port))
	}
	found, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	pod := found.State
	if pod.Phase != sandbox.Ready {
		return nil, fault.New(fault.Precondition, "forward ports of pod sandbox", string(pod.ID), "pod_sandbox_id: it is %s, not ready", pod.Phase)
	}
	url, err := s.Streams.PortForward(streaming.Forward{
		Ports: ports,
		Dial: func(ctx context.Context, port uint16) (streaming.Port, error) {
			conn, err := s.dial(ctx, pod.ID, port)
			return conn, redacted(err)
		},
	})
	if err != nil {
		return nil, streamsRefused(err)
	}
	return &runtimeapi.PortForwardResponse{Url: url}, nil
}

// dial connects to a pod's port, if the pod is still there: a port-forward may last.
func (s streamService) dial(ctx context.Context, pod id.Sandbox, port uint16) (streaming.Port, error) {
	found := s.Views.Sandbox(pod)
	if found == nil || found.State.Phase != sandbox.Ready {
		return nil, fault.New(fault.Precondition, "forward ports of pod sandbox", string(pod), "it is no longer ready")
	}
	conn, err := s.Processes.Dial(ctx, pod, found.State.HostNetwork, port)
	if err != nil {
		return nil, err // and no interface with a nil pointer
	}
	return conn, nil
}
