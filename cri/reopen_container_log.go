package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// ReopenContainerLog reopens the log file of a running container after the kubelet
// renamed it. The CRI requires an error if the container is not running.
func (s *Service) ReopenContainerLog(ctx context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if _, err := s.Actors.Container(ctx, found.State.ID, container.ReopenLog{}, container.ReopenAnswer); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
