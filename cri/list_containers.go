package cri

import (
	"context"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers lists the containers that match every part of the filter.
func (s *Service) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	filter := req.GetFilter()
	answer := &runtimeapi.ListContainersResponse{}
	for _, x := range s.Views.Containers() {
		if !containerShown(x) ||
			!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
			!strings.HasPrefix(string(x.State.Sandbox), filter.GetPodSandboxId()) ||
			filter.GetState() != nil && filter.GetState().GetState() != containerState(x) ||
			!selected(filter.GetLabelSelector(), x.Config.GetLabels()) {
			continue
		}
		answer.Containers = append(answer.Containers, &runtimeapi.Container{
			Id:           string(x.State.ID),
			PodSandboxId: string(x.State.Sandbox),
			Metadata:     x.Config.GetMetadata(),
			Image:        shownImage(x),
			ImageRef:     x.Config.GetImage().GetImage(),
			ImageId:      x.State.Request.Image,
			State:        containerState(x),
			CreatedAt:    x.State.Request.At.UnixNano(),
			Labels:       x.Config.GetLabels(),
			Annotations:  x.Config.GetAnnotations(),
		})
	}
	return answer, nil
}
