package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandboxStats returns what all sandboxes use that match every part of the filter.
func (s statsService) ListPodSandboxStats(ctx context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	stats, err := s.podSandboxStats(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return whole(&runtimeapi.ListPodSandboxStatsResponse{Stats: stats}, "StreamPodSandboxStats")
}
