package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainerStats returns what all running containers use that match every part of the
// filter.
func (s statsService) ListContainerStats(ctx context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	stats, err := s.containerStats(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return whole(&runtimeapi.ListContainerStatsResponse{Stats: stats}, "StreamContainerStats")
}
