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

// ListPodSandbox lists the sandboxes that match every part of the filter.
func (s podService) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	all, filter := s.Views.Sandboxes(), req.GetFilter()
	list := func() *runtimeapi.ListPodSandboxResponse {
		return &runtimeapi.ListPodSandboxResponse{Items: slices.Collect(sandboxesOf(all, filter))}
	}
	if !unfiltered(filter) {
		return whole(list(), "StreamPodSandboxes")
	}
	answer := &runtimeapi.ListPodSandboxResponse{}
	if err := s.last.answer(all, answer, func() proto.Message { return list() }); err != nil {
		return nil, err
	}
	return whole(answer, "StreamPodSandboxes")
}

// podSandboxes are the sandboxes that match every part of the filter, all as of one
// moment.
func (s podService) podSandboxes(filter *runtimeapi.PodSandboxFilter) iter.Seq[*runtimeapi.PodSandbox] {
	return sandboxesOf(s.Views.Sandboxes(), filter)
}

// sandboxesOf are those of all that match every part of the filter.
func sandboxesOf(all []*projections.Sandbox, filter *runtimeapi.PodSandboxFilter) iter.Seq[*runtimeapi.PodSandbox] {
	return func(yield func(*runtimeapi.PodSandbox) bool) {
		for _, x := range all {
			if !sandboxShown(x) ||
				!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
				filter.GetState() != nil && filter.GetState().GetState() != sandboxState(x) ||
				!selected(filter.GetLabelSelector(), x.Labels) {
				continue
			}
			if !yield(&runtimeapi.PodSandbox{
				Id:             string(x.State.ID),
				Metadata:       x.Shown.Metadata,
				State:          sandboxState(x),
				CreatedAt:      x.State.CreatedAt.UnixNano(),
				Labels:         x.Labels(),
				Annotations:    x.Annotations(),
				RuntimeHandler: x.State.Handler,
			}) {
				return
			}
		}
	}
}
