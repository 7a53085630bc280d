package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// RemovePodSandbox removes the sandbox and its containers and kills what still runs. It
// succeeds if the sandbox is gone.
func (s podService) RemovePodSandbox(ctx context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	found, err := s.sandbox(req.GetPodSandboxId())
	if err == nil {
		_, err = s.Actors.Sandbox(ctx, found.State.ID, sandbox.Remove{}, sandbox.RemoveAnswer)
	}
	if err := unlessGone(err); err != nil {
		return nil, err
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// unlessGone turns NotFound into success, for calls that stop or remove.
func unlessGone(err error) error {
	if err != nil && fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}
