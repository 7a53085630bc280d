package cri

import (
	"context"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/projections"
)

// ContainerStats returns what a container uses. One that has ended has no figures but
// those of its writable layer, and of its cgroup while that is there.
func (s statsService) ContainerStats(ctx context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	read, err := s.Stats.Containers(ctx, []*projections.Container{found})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: ofContainer(found, read[0])}, nil
}

// containerStats are the stats of all running containers that match every part of the
// filter. A container that ends meanwhile is left out.
func (s statsService) containerStats(ctx context.Context, filter *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	var matching []*projections.Container
	for _, x := range s.Views.Containers() {
		if mayRun(x) &&
			strings.HasPrefix(string(x.State.ID), filter.GetId()) &&
			strings.HasPrefix(string(x.State.Sandbox), filter.GetPodSandboxId()) &&
			selected(filter.GetLabelSelector(), x.Labels) {
			matching = append(matching, x)
		}
	}
	read, err := s.Stats.Containers(ctx, matching)
	if err != nil {
		return nil, err
	}
	return there(matching, read), nil
}

// there returns the stats of those containers whose cgroup was there.
func there(containers []*projections.Container, read []*runtimeapi.ContainerStats) []*runtimeapi.ContainerStats {
	answer := make([]*runtimeapi.ContainerStats, 0, len(read))
	for i, stats := range read {
		if stats.GetCpu() != nil || stats.GetMemory() != nil {
			answer = append(answer, ofContainer(containers[i], stats))
		}
	}
	return answer
}

// ofContainer says whose stats they are.
func ofContainer(x *projections.Container, stats *runtimeapi.ContainerStats) *runtimeapi.ContainerStats {
	stats.Attributes = &runtimeapi.ContainerAttributes{
		Id: string(x.State.ID), Metadata: x.Shown.Metadata, Labels: x.Labels(), Annotations: x.Annotations(),
	}
	return stats
}

// mayRun reports whether the container's program runs, or may run although the container's
// state is unknown.
func mayRun(x *projections.Container) bool {
	if !containerShown(x) {
		return false
	}
	state := containerState(x)
	return state == runtimeapi.ContainerState_CONTAINER_RUNNING ||
		state == runtimeapi.ContainerState_CONTAINER_UNKNOWN && container.Alive(x.State)
}
