package cri

import (
	"cmp"
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/sandbox"
)

// UpdatePodSandboxResources records what a pod may use as a whole from now on. The kubelet
// calls it before it changes the pod's cgroup itself, and takes any error but Unimplemented
// for a refusal. Runtimes learn the new values with the pod's next container. What the
// request does not name stays. NRI plug-ins may refuse it.
func (s podService) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	found, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if err := s.Validator.UpdateSandbox(req); err != nil {
		return nil, err
	}
	if err := s.Plugins.UpdatePod(ctx, found.State, req.GetOverhead(), req.GetResources()); err != nil {
		return nil, err
	}
	linux := found.Config().GetLinux()
	resources, err := encode(&runtimeapi.LinuxPodSandboxConfig{
		Overhead:  cmp.Or(req.GetOverhead(), linux.GetOverhead()),
		Resources: cmp.Or(req.GetResources(), linux.GetResources()),
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.Actors.Sandbox(ctx, found.State.ID, sandbox.UpdateResources{Resources: resources}, sandbox.UpdateAnswer); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
