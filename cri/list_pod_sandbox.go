package cri

import (
	"context"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox lists the sandboxes that match every part of the filter.
func (s *Service) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	filter := req.GetFilter()
	answer := &runtimeapi.ListPodSandboxResponse{}
	for _, x := range s.Views.Sandboxes() {
		if !sandboxShown(x) ||
			!strings.HasPrefix(string(x.State.ID), filter.GetId()) ||
			filter.GetState() != nil && filter.GetState().GetState() != sandboxState(x) ||
			!selected(filter.GetLabelSelector(), x.Config.GetLabels()) {
			continue
		}
		answer.Items = append(answer.Items, &runtimeapi.PodSandbox{
			Id:             string(x.State.ID),
			Metadata:       x.Config.GetMetadata(),
			State:          sandboxState(x),
			CreatedAt:      x.State.CreatedAt.UnixNano(),
			Labels:         x.Config.GetLabels(),
			Annotations:    x.Config.GetAnnotations(),
			RuntimeHandler: x.State.Handler,
		})
	}
	return answer, nil
}
