package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// ExecSync runs a command in a running container and returns its output and exit code.
// After the timeout (in seconds, 0 for none) the command is killed and the call fails
// with DeadlineExceeded, as the kubelet's probes expect.
func (s *Service) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if len(req.GetCmd()) == 0 {
		return nil, invalid("cmd", "is empty")
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d is negative", req.GetTimeout())
	}
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	x := id.Exec(newID()[:16])
	collect := s.Execs.Begin(ctx, x)
	var ended container.ExecEnded
	answer := container.ExecAnswer(x)
	_, err = s.Actors.Container(ctx, found.State.ID, container.RunExec{
		Exec: x, Command: req.GetCmd(), Timeout: seconds(req.GetTimeout()),
	}, func(state container.State, e container.Event) (bool, error) {
		done, err := answer(state, e)
		if done && err == nil {
			ended, _ = e.(container.ExecEnded)
		}
		return done, err
	})
	stdout, stderr := collect()
	switch {
	case err != nil:
		return nil, err
	case ended.TimedOut:
		return nil, fault.New(fault.Deadline, "exec in container", string(found.State.ID), "timeout: the command did not end within %d s", req.GetTimeout())
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: int32(ended.Code)}, nil
}
