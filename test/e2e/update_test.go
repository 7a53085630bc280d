package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// update calls UpdateContainerResources.
func update(c *Client, id string, change *runtimeapi.LinuxContainerResources) error {
	_, err := c.Runtime.UpdateContainerResources(c.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: change})
	return err
}

// TestUpdateResources changes the limits of a container before it is started, while it
// runs, and under a daemon that was killed: the kernel has them, the status tells them,
// and what an update does not name stays.
func TestUpdateResources(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("resize"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 25_000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	id := pod.Create(config)
	want := proto.CloneOf(config.Linux.Resources)
	set := func(change *runtimeapi.LinuxContainerResources) {
		t.Helper()
		if err := update(h.Client, id, change); err != nil {
			t.Fatalf("update %v: %v", change, err)
		}
		proto.Merge(want, change)
		expectResources(h, id, want)
	}
	set(&runtimeapi.LinuxContainerResources{CpuQuota: 30_000})
	h.StartContainer(id)
	expectResources(h, id, want)
	// A child has its parent's oom_score_adj; one that made another choice keeps it.
	h.Exec(id, "sh", "-c", "sleep 3600 & (echo 900 > /proc/self/oom_score_adj; exec sleep 3601) & true")

	set(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 << 20})
	set(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 << 20, OomScoreAdj: 600})
	set(&runtimeapi.LinuxContainerResources{CpuPeriod: 50_000, CpuQuota: 20_000, CpuShares: 1024})
	set(&runtimeapi.LinuxContainerResources{CpusetCpus: "0-1", CpusetMems: "0"})
	set(&runtimeapi.LinuxContainerResources{CpusetCpus: "0-1"}) // once more
	scores := h.Exec(id, "sh", "-c", "for p in $(pidof sleep); do cat /proc/$p/oom_score_adj; done | sort | uniq -c | tr -s ' '")
	if scores != " 2 600\n 1 900" {
		t.Errorf("the processes' oom_score_adj are\n%s\nwant two of 600 and one of 900", scores)
	}

	h.Daemon.Kill9()
	h.Daemon.Start()
	expectResources(h, id, want)
	set(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -1, CpuQuota: -1})
	if err := update(h.Client, id, &runtimeapi.LinuxContainerResources{}); err != nil {
		t.Errorf("an update of nothing: %v", err)
	}
	expectResources(h, id, want)
	if got := h.Stele("events", "-o", "wide", id, "--configs"); !strings.Contains(got, "ResourcesUpdateRequested") || !strings.Contains(got, `"cpusetCpus":"0-1"`) {
		t.Errorf("the history does not tell of the updates:\n%s", got)
	}

	h.StopContainer(id, 0)
	h.Refused(update(h.Client, id, &runtimeapi.LinuxContainerResources{CpuShares: 2}), codes.FailedPrecondition, id, "exited")
	if got := h.ContainerStatus(id).GetResources().GetLinux(); !proto.Equal(got, want) {
		t.Errorf("after its end the container has %v, want %v", got, want)
	}
}

// expectResources checks what the kernel has and what the status tells.
func expectResources(h *Harness, id string, want *runtimeapi.LinuxContainerResources) {
	h.t.Helper()
	if got := h.ContainerStatus(id).GetResources().GetLinux(); !proto.Equal(got, want) {
		h.t.Errorf("the status has %v, want %v", got, want)
	}
	pid := h.ContainerPID(id)
	unlimited := map[bool]string{true: "max", false: fmt.Sprint(want.MemoryLimitInBytes)}[want.MemoryLimitInBytes < 0]
	quota := map[bool]string{true: "max", false: fmt.Sprint(want.CpuQuota)}[want.CpuQuota < 0]
	v1Limit := fmt.Sprint(want.MemoryLimitInBytes)
	if want.MemoryLimitInBytes < 0 {
		v1Limit = "9223372036854771712"
	}
	for _, limit := range []struct{ controller, v1, wantV1, v2, wantV2 string }{
		{"memory", "memory.limit_in_bytes", v1Limit, "memory.max", unlimited},
		{"memory", "memory.memsw.limit_in_bytes", v1Limit, "memory.swap.max", ""},
		{"cpu", "cpu.cfs_quota_us", fmt.Sprint(want.CpuQuota), "cpu.max", fmt.Sprintf("%s %d", quota, want.CpuPeriod)},
		{"cpu", "cpu.cfs_period_us", fmt.Sprint(want.CpuPeriod), "", ""},
		{"cpu", "cpu.shares", fmt.Sprint(want.CpuShares), "", ""},
		{"cpuset", "cpuset.cpus", want.CpusetCpus, "cpuset.cpus", want.CpusetCpus},
	} {
		dir, v2 := cgroupOf(h.t, pid, limit.controller)
		file, value := limit.v1, limit.wantV1
		if v2 {
			file, value = limit.v2, limit.wantV2
		}
		got, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) && strings.Contains(file, "swap") || strings.Contains(file, "memsw") && err != nil || value == "" {
			continue // a kernel that cannot limit swap
		}
		if err != nil || strings.TrimSpace(string(got)) != value {
			h.t.Errorf("%s is %q, %v; want %s", file, got, err, value)
		}
	}
	if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil || strings.TrimSpace(string(got)) != fmt.Sprint(want.OomScoreAdj) {
		h.t.Errorf("oom_score_adj is %q, %v; want %d", got, err, want.OomScoreAdj)
	}
}

// TestUpdateBelowUsage refuses a memory limit below what is used before anything changes,
// whatever else the request asks for.
func TestUpdateBelowUsage(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("hog"))
	config := h.ContainerConfig("hog", "sh", "-c", "x=x; i=0; while [ $i -lt 24 ]; do x=$x$x; i=$((i+1)); done; touch /ready; sleep 3600; true")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 50_000, CpuShares: 512, MemoryLimitInBytes: 256 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	id := pod.Run(config)
	h.Eventually("the container uses memory", func() bool {
		return h.ExecSync(id, "test", "-e", "/ready").ExitCode == 0
	})
	err := update(h.Client, id, &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 8 << 20, CpuShares: 2, OomScoreAdj: 501, CpuQuota: 10_000})
	h.Refused(err, codes.FailedPrecondition, id, "linux.memory_limit_in_bytes", "8388608", "uses")
	expectResources(h, id, config.Linux.Resources)
	// The kernel has the last word on what this node has, and the rest is not changed either.
	err = update(h.Client, id, &runtimeapi.LinuxContainerResources{CpusetCpus: "60000", CpuShares: 2, OomScoreAdj: 501})
	h.Refused(err, codes.FailedPrecondition, id, "linux.cpuset_cpus", "60000")
	expectResources(h, id, config.Linux.Resources)
	h.Daemon.Kill9()
	h.Daemon.Start()
	expectResources(h, id, config.Linux.Resources)
	if got := h.ContainerStatus(id); got.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %s", got.State)
	}
}

// TestBadUpdates asks for limits that cannot be: each is refused with the right code and a
// message that names the field, and changes nothing.
func TestBadUpdates(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("bad"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 50_000, CpuShares: 512, MemoryLimitInBytes: 256 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	id := pod.Run(config)
	_, v2 := cgroupOf(t, h.ContainerPID(id), "memory")
	for name, c := range map[string]struct {
		change *runtimeapi.LinuxContainerResources
		words  []string
	}{
		"no resources":            {nil, []string{"linux", "missing"}},
		"negative period":         {&runtimeapi.LinuxContainerResources{CpuPeriod: -1}, []string{"linux.cpu_period", "-1"}},
		"period too short":        {&runtimeapi.LinuxContainerResources{CpuPeriod: 999}, []string{"linux.cpu_period", "999"}},
		"period too long":         {&runtimeapi.LinuxContainerResources{CpuPeriod: 1_000_001}, []string{"linux.cpu_period", "1000001"}},
		"quota below -1":          {&runtimeapi.LinuxContainerResources{CpuQuota: -2}, []string{"linux.cpu_quota", "-2"}},
		"quota too low":           {&runtimeapi.LinuxContainerResources{CpuQuota: 10}, []string{"linux.cpu_quota", "10"}},
		"negative shares":         {&runtimeapi.LinuxContainerResources{CpuShares: -5}, []string{"linux.cpu_shares", "-5"}},
		"shares too high":         {&runtimeapi.LinuxContainerResources{CpuShares: 262145}, []string{"linux.cpu_shares", "262145"}},
		"memory limit below -1":   {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -2}, []string{"linux.memory_limit_in_bytes", "-2"}},
		"swap limit below memory": {&runtimeapi.LinuxContainerResources{MemorySwapLimitInBytes: 1 << 20}, []string{"linux.memory_swap_limit_in_bytes", "1048576"}},
		"score too high":          {&runtimeapi.LinuxContainerResources{OomScoreAdj: 1001}, []string{"linux.oom_score_adj", "1001"}},
		"score too low":           {&runtimeapi.LinuxContainerResources{OomScoreAdj: -1001}, []string{"linux.oom_score_adj", "-1001"}},
		"cpuset with a path":      {&runtimeapi.LinuxContainerResources{CpusetCpus: "../0"}, []string{"linux.cpuset_cpus", "../0"}},
		"cpuset with a newline":   {&runtimeapi.LinuxContainerResources{CpusetCpus: "0\n1"}, []string{"linux.cpuset_cpus"}},
		"cpuset backwards":        {&runtimeapi.LinuxContainerResources{CpusetCpus: "3-1"}, []string{"linux.cpuset_cpus", "3-1"}},
		"cpuset of dashes":        {&runtimeapi.LinuxContainerResources{CpusetCpus: "-,-"}, []string{"linux.cpuset_cpus", "-,-"}},
		"memory nodes of words":   {&runtimeapi.LinuxContainerResources{CpusetMems: "all"}, []string{"linux.cpuset_mems", "all"}},
		"page size with a path": {
			&runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB/../../x", Limit: 1}}},
			[]string{"linux.hugepage_limits.page_size", "2MB/../../x"},
		},
		"unified key with a path": {
			&runtimeapi.LinuxContainerResources{Unified: map[string]string{"../memory.max": "1"}}, []string{"linux.unified", "../memory.max"},
		},
		"unified key with a newline": {
			&runtimeapi.LinuxContainerResources{Unified: map[string]string{"memory.max\n": "1"}}, []string{"linux.unified"},
		},
		"unified key that moves processes": {
			&runtimeapi.LinuxContainerResources{Unified: map[string]string{"cgroup.procs": "1"}}, []string{"linux.unified", "cgroup.procs"},
		},
		"unified value with a newline": {
			&runtimeapi.LinuxContainerResources{Unified: map[string]string{"memory.max": "1\n2"}}, []string{"linux.unified", "memory.max"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			h.Refused(update(h.Client, id, c.change), codes.InvalidArgument, c.words...)
		})
	}
	// A file that the kernel does not have.
	code := map[bool]codes.Code{true: codes.FailedPrecondition, false: codes.Unimplemented}[v2]
	h.Refused(update(h.Client, id, &runtimeapi.LinuxContainerResources{Unified: map[string]string{"memory.nonsense": "1"}}), code, "memory.nonsense")

	request := &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{CpuShares: 2}, Windows: &runtimeapi.WindowsContainerResources{},
	}
	_, err := h.Runtime.UpdateContainerResources(h.Context(), request)
	h.Refused(err, codes.Unimplemented, "windows")
	request.Windows, request.Annotations = nil, map[string]string{"a": strings.Repeat("x", 300<<10)}
	_, err = h.Runtime.UpdateContainerResources(h.Context(), request)
	h.Refused(err, codes.InvalidArgument, "annotations")
	request.ContainerId = unknownID
	_, err = h.Runtime.UpdateContainerResources(h.Context(), request)
	h.Refused(err, codes.NotFound, "container_id", unknownID)
	expectResources(h, id, config.Linux.Resources)
}

// TestUpdatePod reports what a pod may use as a whole: it is told by the verbose status, to
// the runtimes of its later containers, and by the next daemon. A container that is asked
// for again is still the same.
func TestUpdatePod(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("resize")
	config.Linux.Overhead = &runtimeapi.LinuxContainerResources{CpuShares: 10, MemoryLimitInBytes: 1 << 20}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 64 << 20}
	pod := h.RunPod(config)
	expect := func(overhead, resources string) {
		t.Helper()
		info := pod.Status().Info["info"]
		for _, want := range []string{`"overhead":` + overhead, `"resources":` + resources} {
			if !strings.Contains(info, want) {
				t.Errorf("the verbose status lacks %s:\n%s", want, info)
			}
		}
	}
	told := func(id, overhead, resources string) {
		t.Helper()
		answer, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		var info struct {
			RuntimeSpec struct{ Annotations map[string]string }
		}
		if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil {
			t.Fatal(err)
		}
		annotations := info.RuntimeSpec.Annotations
		if got := annotations["pod-linux-overhead.crio.io"]; got != overhead {
			t.Errorf("the runtime is told of the overhead %s, want %s", got, overhead)
		}
		if got := annotations["pod-linux-resources.crio.io"]; got != resources {
			t.Errorf("the runtime is told of the resources %s, want %s", got, resources)
		}
	}
	const overhead, before = `{"cpu_shares":10,"memory_limit_in_bytes":1048576}`, `{"cpu_shares":512,"memory_limit_in_bytes":67108864}`
	expect(overhead, before)
	first := pod.Run(h.ContainerConfig("first"))
	told(first, overhead, before)

	for range 2 {
		if err := updatePod(h.Client, pod.ID, nil, &runtimeapi.LinuxContainerResources{CpuShares: 1024}); err != nil {
			t.Fatal(err)
		}
	}
	const after = `{"cpu_shares":1024}`
	expect(overhead, after)
	told(pod.Run(h.ContainerConfig("second")), overhead, after)
	if again := pod.Create(h.ContainerConfig("first")); again != first {
		t.Errorf("asked for again, the container is %s, want %s", again, first)
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	expect(overhead, after)
	told(pod.Run(h.ContainerConfig("third")), overhead, after)
	if got := strings.Count(h.Stele("events", "-o", "wide", pod.ID), "ResourcesUpdated"); got != 1 {
		t.Errorf("the history tells of %d updates, want 1", got)
	}

	type res = runtimeapi.LinuxContainerResources
	h.Refused(updatePod(h.Client, pod.ID, &res{CpuQuota: -7}, nil), codes.InvalidArgument, "overhead.cpu_quota", "-7")
	h.Refused(updatePod(h.Client, pod.ID, nil, &res{CpusetCpus: "a"}), codes.InvalidArgument, "resources.cpuset_cpus", "a")
	h.Refused(updatePod(h.Client, pod.ID, nil, &res{Unified: map[string]string{"../x": "1"}}), codes.InvalidArgument, "resources.unified", "../x")
	expect(overhead, after)
	pod.Stop()
	h.Refused(updatePod(h.Client, pod.ID, nil, &res{CpuShares: 7}), codes.FailedPrecondition, pod.ID, "stopped")
	h.Refused(updatePod(h.Client, "", nil, nil), codes.InvalidArgument, "pod_sandbox_id")
	h.Refused(updatePod(h.Client, unknownID, nil, nil), codes.NotFound, "pod_sandbox_id", unknownID)
}

// updatePod calls UpdatePodSandboxResources.
func updatePod(c *Client, id string, overhead, resources *runtimeapi.LinuxContainerResources) error {
	_, err := c.Runtime.UpdatePodSandboxResources(c.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: id, Overhead: overhead, Resources: resources,
	})
	return err
}
