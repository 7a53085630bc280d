package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/sandbox"
)

// StopPodSandbox stops every process of the sandbox and releases its network. It
// succeeds if the sandbox is gone.
func (s podService) StopPodSandbox(ctx context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	found, err := s.sandbox(req.GetPodSandboxId())
	if err == nil {
		_, err = s.Actors.Sandbox(ctx, found.State.ID, sandbox.Stop{}, sandbox.StopAnswer)
	}
	if err := unlessGone(err); err != nil {
		return nil, err
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}
