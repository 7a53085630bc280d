package cri

import (
	"context"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// PodSandboxStats returns what a pod uses, with each of its running containers.
func (s statsService) PodSandboxStats(ctx context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	found, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	stats, err := s.statsOf(ctx, []*projections.Sandbox{found})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: stats[0]}, nil
}

// podSandboxStats are the stats of all sandboxes that match every part of the filter.
func (s statsService) podSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	var matching []*projections.Sandbox
	for _, x := range s.Views.Sandboxes() {
		if sandboxShown(x) &&
			strings.HasPrefix(string(x.State.ID), filter.GetId()) &&
			selected(filter.GetLabelSelector(), x.Labels) {
			matching = append(matching, x)
		}
	}
	return s.statsOf(ctx, matching)
}

// statsOf returns the stats of sandboxes in their order. One in which nothing can run any
// more has no figures: its cgroup may be the one of its successor.
func (s statsService) statsOf(ctx context.Context, pods []*projections.Sandbox) ([]*runtimeapi.PodSandboxStats, error) {
	live := s.live(pods)
	read, err := s.Stats.Pods(ctx, live)
	if err != nil {
		return nil, err
	}
	answer := make([]*runtimeapi.PodSandboxStats, len(pods))
	for i, x := range pods {
		answer[i] = &runtimeapi.PodSandboxStats{
			Attributes: &runtimeapi.PodSandboxAttributes{
				Id: string(x.State.ID), Metadata: x.Shown.Metadata, Labels: x.Labels(), Annotations: x.Annotations(),
			},
			Linux: &runtimeapi.LinuxPodSandboxStats{},
		}
		if len(live) == 0 || live[0].Pod != x {
			continue
		}
		answer[i].Linux = read[0]
		answer[i].Linux.Containers = there(live[0].Containers, read[0].GetContainers())
		live, read = live[1:], read[1:]
	}
	return answer, nil
}

// live returns those of the sandboxes in which something may run, with their running
// containers.
func (s statsService) live(pods []*projections.Sandbox) (live []Members) {
	for _, x := range pods {
		if x.State.Phase != sandbox.Ready && x.State.Phase != sandbox.Stopping {
			continue
		}
		members := Members{Pod: x}
		for _, c := range s.Views.ContainersOf(x.State.ID) {
			if mayRun(c) {
				members.Containers = append(members.Containers, c)
			}
		}
		live = append(live, members)
	}
	return live
}
