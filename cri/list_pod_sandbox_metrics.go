package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/projections"
)

// ListPodSandboxMetrics returns the metrics of all pods in which something may run, and of
// their running containers. The kubelet publishes them at /metrics/cadvisor.
func (s statsService) ListPodSandboxMetrics(ctx context.Context, _ *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	metrics, err := s.podSandboxMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return whole(&runtimeapi.ListPodSandboxMetricsResponse{PodMetrics: metrics}, "StreamPodSandboxMetrics")
}

// podSandboxMetrics are the metrics of all pods in which something may run.
func (s statsService) podSandboxMetrics(ctx context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	var shown []*projections.Sandbox
	for _, x := range s.Views.Sandboxes() {
		if sandboxShown(x) {
			shown = append(shown, x)
		}
	}
	return s.Stats.PodMetrics(ctx, s.live(shown))
}
