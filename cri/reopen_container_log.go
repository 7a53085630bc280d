package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// ReopenContainerLog reopens the log file of a running container after the kubelet
// renamed it. If the container is not running, the CRI leaves the choice between a new file
// and an error without one. It is the error: there is no more output, and the kubelet then
// gives the renamed file its name back, so that the log of a container that ended in between
// stays where its readers look.
func (s containerService) ReopenContainerLog(ctx context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if _, err := s.Actors.Container(ctx, found.State.ID, container.ReopenLog{}, container.ReopenAnswer); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
