package cri

import (
	"context"
	"iter"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers lists the containers that match every part of the filter.
func (s containerService) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	return whole(&runtimeapi.ListContainersResponse{Containers: slices.Collect(s.containers(req.GetFilter()))}, "StreamContainers")
}

// containers are the containers that match every part of the filter, all as of one
// moment.
func (s containerService) containers(filter *runtimeapi.ContainerFilter) iter.Seq[*runtimeapi.Container] {
	all := s.Views.Containers()
	return func(yield func(*runtimeapi.Container) bool) {
		for _, x := range all {
			if !containerShown(x) ||
				!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
				!strings.HasPrefix(string(x.State.Sandbox), filter.GetPodSandboxId()) ||
				filter.GetState() != nil && filter.GetState().GetState() != containerState(x) ||
				!selected(filter.GetLabelSelector(), x.Shown.Labels) {
				continue
			}
			if !yield(&runtimeapi.Container{
				Id:           string(x.State.ID),
				PodSandboxId: string(x.State.Sandbox),
				Metadata:     x.Shown.Metadata,
				Image:        shownImage(x),
				ImageRef:     x.Shown.Image.GetImage(),
				ImageId:      x.State.Request.Image,
				State:        containerState(x),
				CreatedAt:    x.State.Request.At.UnixNano(),
				Labels:       x.Shown.Labels,
				Annotations:  x.Shown.Annotations,
			}) {
				return
			}
		}
	}
}
