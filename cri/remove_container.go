package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// RemoveContainer removes the container; one that runs is killed first. It is
// idempotent; a container that is gone is removed.
func (s *Service) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err == nil {
		_, err = s.Actors.Container(ctx, found.State.ID, container.Remove{}, container.RemoveAnswer)
	}
	if err := unlessGone(err); err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}
