package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// The calls for checkpoints are refused by name, so that a caller need not guess whether the
// runtime is too old for them.

// CheckpointContainer is not supported yet.
func (s nodeService) CheckpointContainer(_ context.Context, req *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	return nil, noCheckpoints("checkpoint container", req.GetContainerId())
}

// CheckpointPod is not supported yet.
func (s nodeService) CheckpointPod(_ context.Context, req *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, noCheckpoints("checkpoint pod", req.GetPodSandboxId())
}

// RestorePod is not supported yet.
func (s nodeService) RestorePod(_ context.Context, req *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, noCheckpoints("restore pod", req.GetConfig().GetMetadata().GetName())
}

func noCheckpoints(op, subject string) error {
	return fault.New(fault.Unsupported, op, subject, "stele cannot make or restore checkpoints yet")
}
