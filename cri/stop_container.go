package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
)

// withdrawWithin bounds the withdrawal of a stop whose caller left.
const withdrawWithin = 10 * time.Second

// StopContainer stops the container with its stop signal, and with SIGKILL after the
// timeout; a timeout of 0 kills at once. It succeeds if the container is gone. If the
// caller leaves before the timeout, the SIGKILL is withdrawn.
func (s containerService) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err == nil {
		err = s.stop(ctx, found.State.ID, seconds(req.GetTimeout()))
	}
	if err := unlessGone(err); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (s containerService) stop(ctx context.Context, c id.Container, grace time.Duration) error {
	request := newID()
	_, err := s.Actors.Container(ctx, c, container.Stop{Request: request, Grace: grace, At: time.Now()}, container.StopAnswer)
	if ctx.Err() == nil {
		return err
	}
	later, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawWithin)
	defer cancel()
	if _, err := s.Actors.Container(later, c, container.WithdrawStop{Request: request}, nil); unlessGone(err) != nil {
		s.Logger.Warn("stop not withdrawn", "container", string(c), "error", err)
	}
	return err
}
