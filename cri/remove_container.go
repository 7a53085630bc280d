package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// RemoveContainer removes the container and kills it first if it runs. It succeeds if
// the container is gone.
func (s containerService) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err == nil {
		_, err = s.Actors.Container(ctx, found.State.ID, container.Remove{By: container.ByCall}, container.RemoveAnswer)
	}
	if err := unlessGone(err); err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}
