package daemon

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/stats"
	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/projections"
)

// Stats adapts the reader of figures to the CRI: it knows where the cgroups and the
// network namespaces of pods are.
type Stats struct {
	*stats.Reader
	cgroups *cgroups.Manager
	pin     func(id.Sandbox) string
	pods    func(id.Sandbox) *projections.Sandbox
}

// StatsParts are what Stats is made of.
type StatsParts struct {
	Cgroups *cgroups.Manager
	// Pin is where a sandbox's network namespace is pinned.
	Pin   func(id.Sandbox) string
	Views *projections.Live
	Usage *storage.Usage
	// Metrics are the configured groups of metrics.
	Metrics []string
}

// NewStats returns a Stats.
func NewStats(p StatsParts) Stats {
	reader := stats.New(stats.Config{
		Node: p.Cgroups.Node(), Systemd: p.Cgroups.Driver() == cgroups.Systemd, Metrics: p.Metrics,
		Layer: func(container string) (stats.Layer, bool) {
			used, known := p.Usage.LastRootfs(container)
			return stats.Layer{Path: used.Path, Bytes: used.Bytes, Inodes: used.Inodes, At: used.Timestamp}, known
		},
	})
	return Stats{Reader: reader, cgroups: p.Cgroups, pin: p.Pin, pods: p.Views.Sandbox}
}

// Containers is part of cri.Stats.
func (s Stats) Containers(ctx context.Context, containers []*projections.Container) ([]*runtimeapi.ContainerStats, error) {
	asked := make([]stats.Container, len(containers))
	for i, x := range containers {
		asked[i] = s.container(s.pods(x.State.Sandbox), x)
	}
	return s.Reader.Containers(ctx, asked)
}

// Pods is part of cri.Stats.
func (s Stats) Pods(ctx context.Context, pods []cri.Members) ([]*runtimeapi.LinuxPodSandboxStats, error) {
	return s.Reader.Pods(ctx, s.members(pods))
}

// PodMetrics is part of cri.Stats.
func (s Stats) PodMetrics(ctx context.Context, pods []cri.Members) ([]*runtimeapi.PodSandboxMetrics, error) {
	return s.Reader.PodMetrics(ctx, s.members(pods))
}

func (s Stats) members(pods []cri.Members) []stats.Pod {
	asked := make([]stats.Pod, len(pods))
	for i, m := range pods {
		x := m.Pod
		pod := stats.Pod{ID: string(x.State.ID), Name: x.Shown.Metadata.GetName(), Namespace: x.Shown.Metadata.GetNamespace()}
		// A parent that is refused was refused at the pod's creation, too.
		pod.Cgroup, _ = s.cgroups.SandboxCgroup(x.Shown.CgroupParent, pod.ID)
		if !x.State.HostNetwork {
			pod.Network = s.pin(x.State.ID)
		}
		for _, c := range m.Containers {
			pod.Containers = append(pod.Containers, s.container(x, c))
		}
		asked[i] = pod
	}
	return asked
}

// container asks for a container of a pod. Without the pod, or with one whose parent is
// refused, it is not known where the cgroup is.
func (s Stats) container(pod *projections.Sandbox, x *projections.Container) stats.Container {
	asked := stats.Container{
		ID: string(x.State.ID), Since: x.State.Request.At, Init: x.State.Creation.Process.PID,
		Name: x.Shown.Metadata.GetName(), Started: x.State.Run.StartedAt,
		Image: x.Shown.Image.GetUserSpecifiedImage(), Limits: x.Shown.Limits,
	}
	if asked.Image == "" {
		asked.Image = x.Shown.Image.GetImage()
	}
	if pod != nil {
		asked.Cgroup, _ = s.cgroups.ContainerCgroup(pod.Shown.CgroupParent, string(pod.State.ID), asked.ID)
	}
	return asked
}
