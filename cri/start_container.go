package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// StartContainer starts the container's program. A container that was started before, and
// may have ended since, gets the answer of that start again, which may be lost.
func (s containerService) StartContainer(ctx context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if _, err := s.Actors.Container(ctx, found.State.ID, container.Start{At: time.Now()}, container.StartAnswer); err != nil {
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}
