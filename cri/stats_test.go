package cri

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// counted is a street with a container more, which ends before its cgroup is read.
func counted(t *testing.T) *desk {
	t.Helper()
	d := street(t)
	d.follow()
	d.containerEvents("gone", running("gone", "ready", containerConfig(func(c *runtimeapi.ContainerConfig) {
		c.Labels = map[string]string{"name": "gone"}
	}))...)
	d.settle()
	return d
}

func TestListContainerStats(t *testing.T) {
	d := counted(t)
	for name, c := range map[string]struct {
		filter *runtimeapi.ContainerStatsFilter
		want   string
	}{
		// Only what runs, and what may run although it is being removed.
		"nil":             {nil, "removing-alive running"},
		"empty":           {&runtimeapi.ContainerStatsFilter{}, "removing-alive running"},
		"id":              {&runtimeapi.ContainerStatsFilter{Id: "running"}, "running"},
		"prefix":          {&runtimeapi.ContainerStatsFilter{Id: "runn"}, "running"},
		"not running":     {&runtimeapi.ContainerStatsFilter{Id: "created"}, ""},
		"vanished":        {&runtimeapi.ContainerStatsFilter{Id: "gone"}, ""},
		"unknown":         {&runtimeapi.ContainerStatsFilter{Id: "../x\x00"}, ""},
		"pod":             {&runtimeapi.ContainerStatsFilter{PodSandboxId: "rea"}, "removing-alive running"},
		"other pod":       {&runtimeapi.ContainerStatsFilter{PodSandboxId: "stopped"}, ""},
		"labels":          {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"name": "running"}}, "running"},
		"label not there": {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"nope": ""}}, ""},
		"and":             {&runtimeapi.ContainerStatsFilter{Id: "running", LabelSelector: map[string]string{"name": "gone"}}, ""},
		"long":            {&runtimeapi.ContainerStatsFilter{Id: strings.Repeat("r", 1<<20)}, ""},
	} {
		answer, err := d.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{Filter: c.filter})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range answer.GetStats() {
			got = append(got, s.GetAttributes().GetId())
			if s.GetAttributes().GetMetadata().GetName() == "" || s.GetWritableLayer() == nil {
				t.Errorf("%s: %v", name, s)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %q", name, got, c.want)
		}
	}
}

func TestContainerStats(t *testing.T) {
	d := counted(t)
	for name, cpu := range map[string]bool{"running": true, "runn": true, "created": true, "exited-well": true, "gone": false} {
		answer, err := d.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: name})
		if err != nil || (answer.GetStats().GetCpu() != nil) != cpu || !strings.HasPrefix(answer.GetStats().GetAttributes().GetId(), name) {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
	}
	for name, kind := range map[string]fault.Kind{"": fault.Invalid, "exited": fault.Invalid, "nobody": fault.NotFound, "creating": fault.NotFound, "a/../b\x00": fault.NotFound} {
		_, err := d.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: name})
		refused(t, err, kind, "container_id")
	}
}

// A kubelet takes for granted that there are attributes with metadata and that Linux is set.
func TestListPodSandboxStats(t *testing.T) {
	d := counted(t)
	for name, c := range map[string]struct {
		filter *runtimeapi.PodSandboxStatsFilter
		want   string
	}{
		"nil":    {nil, "ready removing stopped stopping"},
		"id":     {&runtimeapi.PodSandboxStatsFilter{Id: "ready"}, "ready"},
		"prefix": {&runtimeapi.PodSandboxStatsFilter{Id: "stop"}, "stopped stopping"},
		"labels": {&runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"app": "web", "tier": "front"}}, "ready removing stopped stopping"},
		"other":  {&runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"app": "db"}}, ""},
		"bad":    {&runtimeapi.PodSandboxStatsFilter{Id: "\x00/"}, ""},
	} {
		answer, err := d.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: c.filter})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range answer.GetStats() {
			got = append(got, s.GetAttributes().GetId())
			// What is stopped has no figures: its cgroup may be its successor's.
			live := s.GetAttributes().GetId() == "ready" || s.GetAttributes().GetId() == "stopping"
			if s.GetAttributes().GetMetadata() == nil || s.GetLinux() == nil || (s.GetLinux().GetCpu() != nil) != live {
				t.Errorf("%s: %v", name, s)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %q", name, got, c.want)
		}
	}
}

// cri-o#6563: the stats of a pod have those of its containers, each with its attributes.
func TestPodSandboxStatsHaveTheContainers(t *testing.T) {
	d := counted(t)
	answer, err := d.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "ready"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range answer.GetStats().GetLinux().GetContainers() {
		got = append(got, c.GetAttributes().GetMetadata().GetName()+"/"+c.GetAttributes().GetId())
	}
	slices.Sort(got)
	if len(got) != 2 || !strings.HasSuffix(got[0], "/removing-alive") || !strings.HasSuffix(got[1], "/running") {
		t.Errorf("containers: %v", got)
	}
	for name, kind := range map[string]fault.Kind{"": fault.Invalid, "stop": fault.Invalid, "nobody": fault.NotFound, "creating": fault.NotFound} {
		_, err := d.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: name})
		refused(t, err, kind, "pod_sandbox_id")
	}
}

func TestListPodSandboxMetrics(t *testing.T) {
	d := counted(t)
	answer, err := d.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil || len(answer.GetPodMetrics()) != 2 {
		t.Fatalf("%v, %v", answer, err)
	}
	for _, m := range d.figures.pods {
		for _, c := range m.Containers {
			if m.Pod.State.Phase != sandbox.Ready || !container.Alive(c.State) {
				t.Errorf("asked for %s of %s", c.State.ID, m.Pod.State.ID)
			}
		}
	}
	described, err := d.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil || len(described.GetDescriptors()) != 1 {
		t.Errorf("%v, %v", described, err)
	}
}

// A caller that gives up is told so.
func TestStatsOfACallerThatIsGone(t *testing.T) {
	d := counted(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.ListContainerStats(gone, &runtimeapi.ListContainerStatsRequest{})
	_, err2 := d.ListPodSandboxStats(gone, &runtimeapi.ListPodSandboxStatsRequest{})
	_, err3 := d.ListPodSandboxMetrics(gone, &runtimeapi.ListPodSandboxMetricsRequest{})
	_, err4 := d.ContainerStats(gone, &runtimeapi.ContainerStatsRequest{ContainerId: "running"})
	for _, err := range []error{err, err2, err3, err4} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}
