package cri

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/projections"
)

// Ending is why streams end when the daemon does.
var Ending error = fault.New(fault.Unavailable, "", "", "the daemon is ending; connect again")

// lastSend is how long an event that is being sent when a subscription ends may take.
const lastSend = time.Second

// GetContainerEvents sends what happens to sandboxes and containers from now on, each
// event once and in order, with the statuses of its pod as of that event. The header comes
// when the subscription is in place.
//
// The first subscriber after the daemon's start first gets what nobody could get before
// it. One that does not read fast enough is ended.
func (s nodeService) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	subscription := s.PodEvents.Subscribe()
	byDaemon := false
	defer func() { subscription.End(byDaemon) }()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	// A client that does not read blocks Send, until this function returns.
	ended := make(chan error, 1)
	go func() {
		ended <- Guard{s.Logger}.guarded("GetContainerEvents", func() error { return sendEvents(ctx, subscription, stream) })
	}()
	var err error
	select {
	case err = <-ended:
	case <-subscription.Overrun():
		err = &projections.OverrunError{}
	case <-ctx.Done():
		err = context.Cause(ctx)
		select {
		case <-ended: //nolint:errcheck // it is why ctx ended
		case <-time.After(lastSend):
		}
	}
	byDaemon = errors.Is(err, Ending)
	if _, is := errors.AsType[*projections.OverrunError](err); is {
		return exhausted("%v; list pods and containers, and subscribe again", err)
	}
	return err
}

func sendEvents(ctx context.Context, from *projections.Subscription, to grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	for {
		event, err := from.Next(ctx)
		if err != nil {
			return err
		}
		if err := to.Send(containerEvent(event)); err != nil {
			return err
		}
		from.Delivered(event)
	}
}

// eventTypes are the turns in the CRI's words. A sandbox has the same ones: its events
// carry its id in the place of a container's.
var eventTypes = map[projections.Turn]runtimeapi.ContainerEventType{
	projections.Created: runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT,
	projections.Started: runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
	projections.Stopped: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
	projections.Deleted: runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT,
}

func containerEvent(e projections.PodEvent) *runtimeapi.ContainerEventResponse {
	shown := &runtimeapi.ContainerEventResponse{
		ContainerId: string(e.Container), ContainerEventType: eventTypes[e.Turn], CreatedAt: e.At.UnixNano(),
		ContainersStatuses: containerStatuses(e.Containers),
	}
	if e.Container == "" {
		shown.ContainerId = string(e.Sandbox)
	}
	if e.Pod != nil {
		shown.PodSandboxStatus = sandboxStatus(e.Pod)
	}
	// A message that is too large would end every subscription. The kubelet needs to
	// know the pod; it can ask for the rest.
	if proto.Size(shown) > MessageMost {
		shown.ContainersStatuses = nil
	}
	return shown
}
