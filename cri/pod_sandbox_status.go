package cri

import (
	"cmp"
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/projections"
)

// PodSandboxStatus returns the status of a sandbox and of its containers, which the
// kubelet's evented PLEG needs.
func (s podService) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	found, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	// No timestamp: with one, a kubelet with evented PLEG takes the statuses from here,
	// and up to 1.37 forgets then which containers are the present sandbox's. It runs
	// init containers again and again (kubernetes#133371). Without one it asks for each
	// container, and evented PLEG works all the same.
	answer := &runtimeapi.PodSandboxStatusResponse{
		Status: sandboxStatus(found), ContainersStatuses: containerStatuses(s.Views.ContainersOf(found.State.ID)),
	}
	if req.GetVerbose() {
		if answer.Info, err = s.sandboxInfo(found); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// containerStatuses are the statuses of those containers of a pod that are shown, newest
// first.
func containerStatuses(containers []*projections.Container) (all []*runtimeapi.ContainerStatus) {
	for _, c := range newestFirst(containers) {
		if containerShown(c) {
			all = append(all, containerStatus(c))
		}
	}
	return all
}

// newestFirst sorts containers as the kubelet expects them: the first of a name is the
// current attempt.
func newestFirst(containers []*projections.Container) []*projections.Container {
	return slices.SortedStableFunc(slices.Values(containers), func(a, b *projections.Container) int {
		return cmp.Or(b.State.Request.At.Compare(a.State.Request.At), cmp.Compare(b.State.Name.Attempt, a.State.Name.Attempt))
	})
}

func sandboxStatus(x *projections.Sandbox) *runtimeapi.PodSandboxStatus {
	status := &runtimeapi.PodSandboxStatus{
		Id:             string(x.State.ID),
		Metadata:       x.Shown.Metadata,
		State:          sandboxState(x),
		CreatedAt:      x.State.CreatedAt.UnixNano(),
		Network:        &runtimeapi.PodSandboxNetworkStatus{},
		Linux:          &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: x.Shown.Namespaces}},
		Labels:         x.Labels(),
		Annotations:    x.Annotations(),
		RuntimeHandler: x.State.Handler,
	}
	for i, ip := range x.State.Network.IPs {
		if i == 0 {
			status.Network.Ip = ip
			continue
		}
		status.Network.AdditionalIps = append(status.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
	}
	return status
}

func sandboxState(x *projections.Sandbox) runtimeapi.PodSandboxState {
	if x.Stage() == projections.Active {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}
