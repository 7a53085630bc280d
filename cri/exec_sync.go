package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/streams"
)

// ExecSync runs a command in a running container and returns its output and exit code.
// After the timeout (in seconds, 0 for none) the command is killed and the call fails
// with DeadlineExceeded, as the kubelet's probes expect.
func (s streamService) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if err := checkCommand(req.GetCmd()); err != nil {
		return nil, err
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d is negative", req.GetTimeout())
	}
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	output := s.outputs.begin()
	defer output.end()
	ended, err := s.run(ctx, found.State.ID,
		container.RunExec{Command: req.GetCmd(), Timeout: seconds(req.GetTimeout())},
		streams.Stdio{Stdout: &output.stdout, Stderr: &output.stderr},
	)
	switch {
	case err != nil:
		return nil, err
	case ended.TimedOut:
		return nil, fault.New(fault.Deadline, "exec in container", string(found.State.ID), "timeout: the command did not end within %d s", req.GetTimeout())
	}
	return &runtimeapi.ExecSyncResponse{Stdout: output.stdout.bytes(), Stderr: output.stderr.bytes(), ExitCode: int32(ended.Code)}, nil
}
