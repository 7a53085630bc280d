package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ownCgroup gives a pod a cgroup of its own, as the kubelet does, which removes it, too.
func ownCgroup(h *Harness, config *runtimeapi.PodSandboxConfig) *runtimeapi.PodSandboxConfig {
	config.Linux.CgroupParent = filepath.Join(h.CgroupParent, config.Metadata.Uid)
	h.t.Cleanup(func() {
		dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", config.Linux.CgroupParent))
		for _, dir := range append(dirs, filepath.Join("/sys/fs/cgroup", config.Linux.CgroupParent)) {
			_ = syscall.Rmdir(dir)
		}
	})
	return config
}

func (c *Client) containerStats(id string) *runtimeapi.ContainerStats {
	c.t.Helper()
	answer, err := c.Runtime.ContainerStats(c.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		c.t.Fatalf("stats of container %s: %v", id, err)
	}
	return answer.Stats
}

func (c *Client) podStats(id string) *runtimeapi.LinuxPodSandboxStats {
	c.t.Helper()
	answer, err := c.Runtime.PodSandboxStats(c.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: id})
	if err != nil {
		c.t.Fatalf("stats of pod %s: %v", id, err)
	}
	return answer.GetStats().GetLinux()
}

func TestContainerStats(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(ownCgroup(h, h.PodConfig("busy")))

	// Burns CPU, and keeps memory that is no file's.
	burning := h.ContainerConfig("burning", "sh", "-c", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); while :; do :; done")
	burning.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 256 << 20}
	burns := pod.Run(burning)
	sleeps := pod.Run(h.ContainerConfig("sleeping"))

	h.Eventually("the busy container's CPU time and memory are counted", func() bool {
		s := h.containerStats(burns)
		return s.GetCpu().GetUsageCoreNanoSeconds().GetValue() > uint64(200*time.Millisecond) && s.GetMemory().GetRssBytes().GetValue() > 20_000_000
	})
	s := h.containerStats(burns)
	if s.GetAttributes().GetId() != burns || s.GetAttributes().GetMetadata().GetName() != "burning" || s.GetAttributes().GetLabels()["container"] != "burning" || s.GetAttributes().GetAnnotations()["note"] != "of burning" {
		t.Errorf("attributes: %v", s.GetAttributes())
	}
	if s.GetCpu().GetUsageNanoCores().GetValue() == 0 || s.GetCpu().GetTimestamp() == 0 {
		t.Errorf("a container that burns CPU since it began: %v", s.GetCpu())
	}
	m := s.GetMemory()
	if m.GetWorkingSetBytes().GetValue() < 20_000_000 || m.GetUsageBytes().GetValue() < m.GetWorkingSetBytes().GetValue() || m.GetPageFaults().GetValue() == 0 ||
		m.GetAvailableBytes().GetValue() != 256<<20-m.GetWorkingSetBytes().GetValue() {
		t.Errorf("memory: %v", m)
	}
	idle := h.containerStats(sleeps)
	if idle.GetMemory().GetAvailableBytes() != nil {
		t.Errorf("a container without a limit has %v available", idle.GetMemory().GetAvailableBytes())
	}
	if idle.GetCpu().GetUsageCoreNanoSeconds().GetValue() >= s.GetCpu().GetUsageCoreNanoSeconds().GetValue() {
		t.Errorf("the idle one has used %v, the busy one %v", idle.GetCpu(), s.GetCpu())
	}

	// cri-o#6563: the pod's figures are its own cgroup's, with each container beside them.
	p := h.podStats(pod.ID)
	if len(p.GetContainers()) != 2 {
		t.Fatalf("the pod's containers: %v", p.GetContainers())
	}
	var working uint64
	for _, c := range p.GetContainers() {
		if c.GetAttributes().GetMetadata().GetName() == "" {
			t.Errorf("whose stats are %v?", c)
		}
		working = max(working, c.GetMemory().GetWorkingSetBytes().GetValue())
	}
	if p.GetMemory().GetWorkingSetBytes().GetValue() <= working {
		t.Errorf("the pod has %v in use and one of its containers %d", p.GetMemory().GetWorkingSetBytes(), working)
	}
	if p.GetCpu().GetUsageCoreNanoSeconds().GetValue() < s.GetCpu().GetUsageCoreNanoSeconds().GetValue() {
		t.Errorf("the pod has used %v, its container before %v", p.GetCpu(), s.GetCpu())
	}
	if n := p.GetProcess().GetProcessCount().GetValue(); n < 2 || n > 10 {
		t.Errorf("%d processes", n)
	}

	pageCacheIsNoWorkingSet(t, h, sleeps)

	// What has ended is in no list, and no error.
	h.StopContainer(burns, 0)
	if got := h.statsBy(&runtimeapi.ContainerStatsFilter{PodSandboxId: pod.ID}); len(got) != 1 || got[0] != sleeps {
		t.Errorf("listed: %v", got)
	}
	if s := h.containerStats(burns); s.GetAttributes().GetId() != burns {
		t.Errorf("an ended container: %v", s)
	}
}

// pageCacheIsNoWorkingSet has a container write and read a file.
func pageCacheIsNoWorkingSet(t *testing.T, h *Harness, id string) {
	t.Helper()
	before := h.containerStats(id)
	h.Exec(id, "sh", "-c", "dd if=/dev/zero of=/file bs=1M count=20 2>/dev/null")
	after := h.containerStats(id)
	grown := func(of func(*runtimeapi.ContainerStats) *runtimeapi.UInt64Value) int64 {
		return int64(of(after).GetValue()) - int64(of(before).GetValue())
	}
	usage := grown(func(s *runtimeapi.ContainerStats) *runtimeapi.UInt64Value { return s.GetMemory().GetUsageBytes() })
	working := grown(func(s *runtimeapi.ContainerStats) *runtimeapi.UInt64Value { return s.GetMemory().GetWorkingSetBytes() })
	if usage < 15<<20 || working > usage-10<<20 {
		t.Errorf("20 MiB of page cache: usage grew by %d bytes, the working set by %d", usage, working)
	}
	// The layer was empty, and is measured again when that is a minute old.
	layer := after.GetWritableLayer()
	if layer.GetUsedBytes() == nil || layer.GetInodesUsed().GetValue() == 0 || layer.GetTimestamp() == 0 || layer.GetFsId().GetMountpoint() == "" {
		t.Errorf("writable layer: %v", layer)
	}
}

// podStatsFollow does all that changes the figures of a container, the pod's only one, and
// compares what PodSandboxStats says of it, which reads it only if something has run in the
// pod, with ContainerStats, which always reads it.
func podStatsFollow(t *testing.T, h *Harness, pod *Pod, id string) {
	t.Helper()
	figures := func(s *runtimeapi.ContainerStats) *runtimeapi.ContainerStats {
		return &runtimeapi.ContainerStats{
			Cpu: &runtimeapi.CpuUsage{UsageCoreNanoSeconds: s.GetCpu().GetUsageCoreNanoSeconds(), Psi: s.GetCpu().GetPsi()},
			Memory: &runtimeapi.MemoryUsage{
				UsageBytes: s.GetMemory().GetUsageBytes(), WorkingSetBytes: s.GetMemory().GetWorkingSetBytes(),
				AvailableBytes: s.GetMemory().GetAvailableBytes(), RssBytes: s.GetMemory().GetRssBytes(),
				PageFaults: s.GetMemory().GetPageFaults(), MajorPageFaults: s.GetMemory().GetMajorPageFaults(), Psi: s.GetMemory().GetPsi(),
			},
			Swap: &runtimeapi.SwapUsage{SwapUsageBytes: s.GetSwap().GetSwapUsageBytes(), SwapAvailableBytes: s.GetSwap().GetSwapAvailableBytes()},
			Io:   &runtimeapi.IoUsage{Psi: s.GetIo().GetPsi()},
		}
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"at its begin", func() {}},
		{"after a command", func() { h.Exec(id, "true") }},
		{"with more page cache", func() { h.Exec(id, "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=5") }},
		{"with another process", func() { h.Exec(id, "sh", "-c", "sleep 3600 <&- >&- 2>&- &") }},
		{"with a limit", func() {
			if err := update(h.Client, id, &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		step.do()
		// The kernel adds up memory.stat late. Tries are few, because in a minute all is read again.
		for tries := 1; ; tries++ {
			inPod, alone := figures(h.podStats(pod.ID).GetContainers()[0]), figures(h.containerStats(id))
			if proto.Equal(inPod, alone) {
				break
			}
			if tries == 200 {
				t.Fatalf("%s, the pod's stats say of the container\n%v\nand its own\n%v", step.what, inPod, alone)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if h.podStats(pod.ID).GetContainers()[0].GetMemory().GetAvailableBytes() == nil {
		t.Error("a container with a limit has no memory available")
	}
}

// cri-o#6657: a pod without a pause container has network figures, and so has one without
// any container.
func TestNetworkStats(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	server := h.RunPod(h.PodConfig("server"))
	before := h.podStats(server.ID)
	if before.GetNetwork().GetDefaultInterface().GetName() != "eth0" || before.GetNetwork().GetTimestamp() == 0 || len(before.GetContainers()) != 0 {
		t.Fatalf("a pod without containers: %v", before)
	}
	server.Run(h.TesterConfig("c", "serve", ":8080"))
	for range 20 {
		h.Reachable(server.IP() + ":8080").Close()
	}
	after := h.podStats(server.ID).GetNetwork().GetDefaultInterface()
	if after.GetRxBytes().GetValue() < before.GetNetwork().GetDefaultInterface().GetRxBytes().GetValue()+1000 || after.GetTxBytes().GetValue() < 1000 || after.GetRxErrors() == nil {
		t.Errorf("after 20 connections: %v; before: %v", after, before.GetNetwork())
	}

	// A pod on the node's network has no network of its own.
	config := h.PodConfig("host")
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	if got := h.podStats(h.RunPod(config).ID); got == nil || got.GetNetwork() != nil {
		t.Errorf("a pod on the node's network: %v", got)
	}

	// What is stopped has no figures, and is no error.
	server.Stop()
	if got := h.podStats(server.ID); got == nil || got.GetNetwork() != nil || got.GetCpu() != nil {
		t.Errorf("a stopped pod: %v", got)
	}
}

func TestStatsFilters(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	red, blue := h.RunPod(h.PodConfig("red")), h.RunPod(h.PodConfig("blue"))
	a, b := red.Run(h.ContainerConfig("a")), blue.Run(h.ContainerConfig("b"))
	red.Create(h.ContainerConfig("created"))
	h.WaitExit(red.Run(h.ContainerConfig("exited", "true")))

	for name, c := range map[string]struct {
		filter *runtimeapi.ContainerStatsFilter
		want   []string
	}{
		"all":             {nil, []string{a, b}},
		"empty":           {&runtimeapi.ContainerStatsFilter{}, []string{a, b}},
		"id":              {&runtimeapi.ContainerStatsFilter{Id: a}, []string{a}},
		"truncated id":    {&runtimeapi.ContainerStatsFilter{Id: b[:12]}, []string{b}},
		"pod":             {&runtimeapi.ContainerStatsFilter{PodSandboxId: red.ID}, []string{a}},
		"truncated pod":   {&runtimeapi.ContainerStatsFilter{PodSandboxId: blue.ID[:12]}, []string{b}},
		"labels":          {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"suite": "e2e", "container": "a"}}, []string{a}},
		"label not there": {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"nope": ""}}, nil},
		"id and pod":      {&runtimeapi.ContainerStatsFilter{Id: a, PodSandboxId: blue.ID}, nil},
		"a path":          {&runtimeapi.ContainerStatsFilter{Id: "../../" + a}, nil},
		"control bytes":   {&runtimeapi.ContainerStatsFilter{Id: "\x00\n"}, nil},
		"very long":       {&runtimeapi.ContainerStatsFilter{PodSandboxId: strings.Repeat("a", 1<<20)}, nil},
	} {
		t.Run("containers/"+name, func(t *testing.T) { sameSet(t, h.In(t).statsBy(c.filter), c.want) })
	}
	for name, c := range map[string]struct {
		filter *runtimeapi.PodSandboxStatsFilter
		want   []string
	}{
		"all":          {nil, []string{red.ID, blue.ID}},
		"id":           {&runtimeapi.PodSandboxStatsFilter{Id: red.ID}, []string{red.ID}},
		"truncated id": {&runtimeapi.PodSandboxStatsFilter{Id: blue.ID[:12]}, []string{blue.ID}},
		"labels":       {&runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"pod": "red"}}, []string{red.ID}},
		"unknown":      {&runtimeapi.PodSandboxStatsFilter{Id: "\x00"}, nil},
	} {
		t.Run("pods/"+name, func(t *testing.T) {
			answer, err := h.Runtime.ListPodSandboxStats(h.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: c.filter})
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, s := range answer.GetStats() {
				ids = append(ids, s.GetAttributes().GetId())
			}
			sameSet(t, ids, c.want)
		})
	}
	for _, bad := range []string{"", strings.Repeat("0", 64), "../x", "\x00", strings.Repeat("a", 1<<20)} {
		want := codes.NotFound
		if bad == "" {
			want = codes.InvalidArgument
		}
		_, err := h.Runtime.ContainerStats(h.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: bad})
		h.Refused(err, want, "container_id")
		_, err = h.Runtime.PodSandboxStats(h.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: bad})
		h.Refused(err, want, "pod_sandbox_id")
	}
}

func (c *Client) statsBy(filter *runtimeapi.ContainerStatsFilter) (ids []string) {
	c.t.Helper()
	answer, err := c.Runtime.ListContainerStats(c.Context(), &runtimeapi.ListContainerStatsRequest{Filter: filter})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range answer.GetStats() {
		ids = append(ids, s.GetAttributes().GetId())
	}
	return ids
}

// sample is a metric with its labels by name.
type sample struct {
	name   string
	labels map[string]string
	value  uint64
}

// metrics asks for the metrics as a kubelet does: with the descriptors from before.
func (c *Client) metrics(descriptors []*runtimeapi.MetricDescriptor) (all []sample) {
	c.t.Helper()
	keys := map[string][]string{}
	for _, d := range descriptors {
		if keys[d.GetName()] != nil || d.GetHelp() == "" {
			c.t.Errorf("descriptor %v", d)
		}
		keys[d.GetName()] = d.GetLabelKeys()
	}
	answer, err := c.Runtime.ListPodSandboxMetrics(c.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	add := func(metrics []*runtimeapi.Metric) {
		for _, m := range metrics {
			if len(m.GetLabelValues()) != len(keys[m.GetName()]) {
				c.t.Errorf("%v does not fit the labels %v", m, keys[m.GetName()])
				continue
			}
			s := sample{m.GetName(), map[string]string{}, m.GetValue().GetValue()}
			for i, key := range keys[m.GetName()] {
				s.labels[key] = m.GetLabelValues()[i]
			}
			all = append(all, s)
		}
	}
	for _, p := range answer.GetPodMetrics() {
		add(p.GetMetrics())
		for _, m := range p.GetContainerMetrics() {
			add(m.GetMetrics())
		}
	}
	// A kubelet refuses all of them if two have the same name and labels.
	seen := map[string]bool{}
	for _, s := range all {
		if key := fmt.Sprint(s.name, s.labels); seen[key] {
			c.t.Errorf("twice: %s", key)
		} else {
			seen[key] = true
		}
	}
	return all
}

func (c *Client) descriptors() []*runtimeapi.MetricDescriptor {
	c.t.Helper()
	answer, err := c.Runtime.ListMetricDescriptors(c.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.GetDescriptors()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(ownCgroup(h, h.PodConfig("metered")))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 64 << 20}
	id := pod.Run(config)

	all := h.metrics(h.descriptors())
	find := func(name, container string, labels map[string]string) (values []uint64) {
		for _, s := range all {
			fits := s.name == name && s.labels["container"] == container && s.labels["namespace"] == "e2e" && s.labels["pod"] == "metered"
			for key, value := range labels {
				fits = fits && s.labels[key] == value
			}
			if fits {
				values = append(values, s.value)
			}
		}
		return values
	}
	own := map[string]string{"name": id, "image": h.Busybox}
	for name, want := range map[string]func(uint64) bool{
		"container_spec_memory_limit_bytes":  func(v uint64) bool { return v == 64<<20 },
		"container_spec_cpu_shares":          func(v uint64) bool { return v == 2 },
		"container_spec_cpu_period":          func(v uint64) bool { return v == 100_000 },
		"container_processes":                func(v uint64) bool { return v == 1 },
		"container_threads":                  func(v uint64) bool { return v == 1 },
		"container_file_descriptors":         func(v uint64) bool { return v > 0 && v < 100 },
		"container_memory_working_set_bytes": func(v uint64) bool { return v > 0 && v < 64<<20 },
		"container_memory_failcnt":           func(v uint64) bool { return v == 0 },
		"container_oom_events_total":         func(v uint64) bool { return v == 0 },
		"container_last_seen":                func(v uint64) bool { return v > 1_700_000_000 },
		"container_start_time_seconds":       func(v uint64) bool { return v > 1_700_000_000 },
		"container_fs_usage_bytes":           func(v uint64) bool { return v < 1<<20 },
		"container_fs_limit_bytes":           func(v uint64) bool { return v > 0 },
		"container_ulimits_soft":             func(v uint64) bool { return v > 0 },
		"container_cpu_usage_seconds_total":  func(v uint64) bool { return v < 100 },
	} {
		if got := find(name, "c", own); len(got) != 1 || !want(got[0]) {
			t.Errorf("%s is %v", name, got)
		}
	}
	for _, s := range all {
		if s.name == "container_last_seen" && s.labels["name"] == id && !strings.HasPrefix(s.labels["id"], pod.Config.Linux.CgroupParent+"/") {
			t.Errorf("the id is %s", s.labels["id"])
		}
	}
	// The network is ascribed to a pause container's name, the pod's cgroup to none.
	if got := find("container_network_receive_bytes_total", "POD", map[string]string{"interface": "eth0", "name": pod.ID}); len(got) != 1 {
		t.Errorf("network: %v", got)
	}
	if got := find("container_memory_working_set_bytes", "", map[string]string{"id": pod.Config.Linux.CgroupParent, "image": ""}); len(got) != 1 || got[0] == 0 {
		t.Errorf("the pod's memory: %v", got)
	}
}

func TestIncludedPodMetrics(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "[stats]\nincluded_pod_metrics = ['network', 'oom']\n"})
	h.RunPod(h.PodConfig("metered")).Run(h.ContainerConfig("c"))
	descriptors := h.descriptors()
	for _, d := range descriptors {
		if !strings.HasPrefix(d.GetName(), "container_network_") && d.GetName() != "container_oom_events_total" && d.GetName() != "container_last_seen" {
			t.Errorf("not chosen: %s", d.GetName())
		}
	}
	if len(descriptors) != 10 {
		t.Errorf("%d descriptors", len(descriptors))
	}
	if all := h.metrics(descriptors); len(all) == 0 {
		t.Error("no metrics")
	}
}
