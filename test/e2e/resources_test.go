package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestResources(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("limits"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 25_000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	id := pod.Run(config)
	pid := h.ContainerPID(id)

	for _, limit := range []struct{ controller, v1, wantV1, v2, wantV2 string }{
		{"memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
		{"cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"},
		{"cpu", "cpu.cfs_period_us", "100000", "cpu.max", "25000 100000"},
		{"cpu", "cpu.shares", "512", "", ""},
		{"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"},
	} {
		dir, v2 := cgroupOf(t, pid, limit.controller)
		if !strings.Contains(dir, h.CgroupParent+"/") {
			t.Errorf("the cgroup %s is not below the parent %s", dir, h.CgroupParent)
		}
		file, want := limit.v1, limit.wantV1
		if v2 {
			file, want = limit.v2, limit.wantV2
		}
		if file == "" {
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q, %v; want %s", file, got, err, want)
		}
	}
	if got := h.Exec(id, "cat", "/proc/1/oom_score_adj"); got != "500" {
		t.Errorf("oom_score_adj is %s, want 500", got)
	}
	status := h.ContainerStatus(id)
	if got := status.GetResources().GetLinux().GetMemoryLimitInBytes(); got != 64<<20 {
		t.Errorf("the status tells a memory limit of %d", got)
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("oom"))
	config := h.ContainerConfig("hog", "sh", "-c", "x=x; while :; do x=$x$x; done")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 32 << 20}
	status := h.WaitExit(pod.Run(config))
	if status.ExitCode != 137 || status.Reason != "OOMKilled" {
		t.Errorf("exit code %d, reason %q; want 137, OOMKilled", status.ExitCode, status.Reason)
	}
}

// A pod without a cgroup parent gets a cgroup of its own, which goes with it.
func TestNoCgroupParent(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() {
		// The daemons of a machine share the parent of such cgroups; the last one removes
		// it.
		roots, _ := filepath.Glob("/sys/fs/cgroup/*/stele")
		for _, root := range append(roots, "/sys/fs/cgroup/stele") {
			_ = syscall.Rmdir(root)
		}
	})
	h := New(t, programs, Options{})
	config := h.PodConfig("orphan")
	config.Linux.CgroupParent = ""
	pod := h.RunPod(config)
	id := pod.Run(h.ContainerConfig("c"))
	h.Scope.IDs = append(h.Scope.IDs, pod.ID, id)
	if dir, _ := cgroupOf(t, h.ContainerPID(id), "pids"); !strings.Contains(dir, id) {
		t.Errorf("the cgroup %s isn't named after the container", dir)
	}
	pod.Remove()
	h.Audit()
}

// cgroupOf returns the directory of a process's cgroup for a controller.
func cgroupOf(t testing.TB, pid int, controller string) (dir string, v2 bool) {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for name := range strings.SplitSeq(parts[1], ",") {
			if name == controller {
				return filepath.Join("/sys/fs/cgroup", controller, parts[2]), false
			}
		}
	}
	for line := range strings.Lines(string(content)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join("/sys/fs/cgroup", path), true
		}
	}
	t.Fatalf("process %d has no cgroup for %s:\n%s", pid, controller, content)
	return "", false
}
