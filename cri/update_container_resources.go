package cri

import (
	"context"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
)

// UpdateContainerResources changes the limits of a created or running container: all that
// the request asks for, or none. Zero means unchanged, as the CRI says. A memory limit
// below what is used is refused, as the kubelet's in-place resize expects.
//
// Annotations are recorded with the request. The CRI leaves their meaning to the runtime,
// and none has one here.
func (s containerService) UpdateContainerResources(ctx context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := s.Validator.Update(found.Config(), req); err != nil {
		return nil, err
	}
	if proto.Size(req.GetLinux()) == 0 {
		return &runtimeapi.UpdateContainerResourcesResponse{}, nil
	}
	change, err := encode(req)
	if err != nil {
		return nil, err
	}
	if _, err := s.Actors.Container(ctx, found.State.ID, container.UpdateResources{Change: change}, container.UpdateAnswer()); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}
