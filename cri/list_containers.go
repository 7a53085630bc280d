package cri

import (
	"context"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/projections"
)

// ListContainers lists the containers that match every part of the filter.
func (s containerService) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	all, filter := s.Views.Containers(), req.GetFilter()
	list := func() *runtimeapi.ListContainersResponse {
		return &runtimeapi.ListContainersResponse{Containers: slices.Collect(containersOf(all, filter))}
	}
	if !unfiltered(filter) {
		return whole(list(), "StreamContainers")
	}
	answer := &runtimeapi.ListContainersResponse{}
	if err := s.last.answer(all, answer, func() proto.Message { return list() }); err != nil {
		return nil, err
	}
	return whole(answer, "StreamContainers")
}

// containers are the containers that match every part of the filter, all as of one
// moment.
func (s containerService) containers(filter *runtimeapi.ContainerFilter) iter.Seq[*runtimeapi.Container] {
	return containersOf(s.Views.Containers(), filter)
}

// containersOf are those of all that match every part of the filter.
func containersOf(all []*projections.Container, filter *runtimeapi.ContainerFilter) iter.Seq[*runtimeapi.Container] {
	return func(yield func(*runtimeapi.Container) bool) {
		for _, x := range all {
			if !containerShown(x) ||
				!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
				!strings.HasPrefix(string(x.State.Sandbox), filter.GetPodSandboxId()) ||
				filter.GetState() != nil && filter.GetState().GetState() != containerState(x) ||
				!selected(filter.GetLabelSelector(), x.Labels) {
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
				Labels:       x.Labels(),
				Annotations:  x.Annotations(),
			}) {
				return
			}
		}
	}
}
