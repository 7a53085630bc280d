package cri

import (
	"context"
	"iter"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox lists the sandboxes that match every part of the filter.
func (s podService) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	return whole(&runtimeapi.ListPodSandboxResponse{Items: slices.Collect(s.podSandboxes(req.GetFilter()))}, "StreamPodSandboxes")
}

// podSandboxes are the sandboxes that match every part of the filter, all as of one
// moment.
func (s podService) podSandboxes(filter *runtimeapi.PodSandboxFilter) iter.Seq[*runtimeapi.PodSandbox] {
	all := s.Views.Sandboxes()
	return func(yield func(*runtimeapi.PodSandbox) bool) {
		for _, x := range all {
			if !sandboxShown(x) ||
				!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
				filter.GetState() != nil && filter.GetState().GetState() != sandboxState(x) ||
				!selected(filter.GetLabelSelector(), x.Shown.Labels) {
				continue
			}
			if !yield(&runtimeapi.PodSandbox{
				Id:             string(x.State.ID),
				Metadata:       x.Shown.Metadata,
				State:          sandboxState(x),
				CreatedAt:      x.State.CreatedAt.UnixNano(),
				Labels:         x.Shown.Labels,
				Annotations:    x.Shown.Annotations,
				RuntimeHandler: x.State.Handler,
			}) {
				return
			}
		}
	}
}
