package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestNode sees what differs between kinds of nodes: versions of cgroups, cgroup drivers and
// runtimes. Package test/vm runs it on each kind.
func TestNode(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	t.Run("limits", func(t *testing.T) { nodeLimits(t, h.In(t)) })
	t.Run("updates", func(t *testing.T) { nodeUpdates(t, h.In(t)) })
	t.Run("kills for want of memory", func(t *testing.T) { nodeOutOfMemory(t, h.In(t)) })
	t.Run("figures", func(t *testing.T) { nodeFigures(t, h.In(t)) })
	t.Run("figures of an idle pod", func(t *testing.T) {
		h := h.In(t)
		pod := h.RunPod(kubeletPod(h, "idle"))
		podStatsFollow(t, h, pod, pod.Run(h.ContainerConfig("c")))
	})
	t.Run("io", func(t *testing.T) { nodeIO(t, h.In(t)) })
	t.Run("huge pages", func(t *testing.T) { nodeHugepages(t, h.In(t)) })
	t.Run("user namespace", func(t *testing.T) { nodeUsers(t, h.In(t)) })
	t.Run("exit without a monitor", func(t *testing.T) { nodeExitWithoutMonitor(t, h) })
}

// kubeletPod is a pod in a cgroup of the kubelet's form. As the kubelet does, it removes that
// cgroup once the pod is gone.
func kubeletPod(h *Harness, name string) *runtimeapi.PodSandboxConfig {
	config := h.PodConfig(name)
	h.t.Cleanup(func() {
		for parent := config.Linux.CgroupParent; parent != h.CgroupParent; parent = filepath.Dir(parent) {
			if systemdCgroups() {
				_ = exec.Command("systemctl", "stop", filepath.Base(parent)).Run()
			}
			dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
			for _, dir := range append(dirs, "/sys/fs/cgroup"+parent) {
				_ = unix.Rmdir(dir) // another pod's may be in it
			}
		}
	})
	if systemdCgroups() {
		root := strings.TrimSuffix(filepath.Base(h.CgroupParent), ".slice")
		config.Linux.CgroupParent = fmt.Sprintf("%s/%s-burstable.slice/%s-burstable-pod%s.slice", h.CgroupParent, root, root, name)
		return config
	}
	config.Linux.CgroupParent = filepath.Join(h.CgroupParent, "burstable", "pod"+name)
	return config
}

// arrived returns what a file of a container's own cgroup says.
func arrived(t *testing.T, pid int, controller, file string) string {
	t.Helper()
	dir, _ := cgroupOf(t, pid, controller)
	got, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(got))
}

func nodeLimits(t *testing.T, h *Harness) {
	pod := h.RunPod(kubeletPod(h, "limits"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 25_000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 80 << 20, CpusetCpus: "0",
	}
	_, v2 := cgroupOf(t, os.Getpid(), "memory")
	if v2 {
		config.Linux.Resources.Unified = map[string]string{"memory.high": strconv.Itoa(60 << 20), "pids.max": "55", "memory.oom.group": "1"}
	}
	pid := h.ContainerPID(pod.Run(config))
	dir, _ := cgroupOf(t, pid, "memory")
	if parent := strings.TrimPrefix(pod.Config.Linux.CgroupParent, "/"); !strings.Contains(dir, parent+"/") {
		t.Errorf("the cgroup %s is not below the pod's, %s", dir, parent)
	}
	if systemdCgroups() && !strings.Contains(dir, ".scope") {
		t.Errorf("the cgroup %s is not a scope", dir)
	}
	if !v2 {
		return // TestResources sees the files of v1
	}
	for file, want := range map[string]string{
		"memory.max": "67108864", "memory.swap.max": "16777216", "memory.high": "62914560", "memory.oom.group": "1",
		"pids.max": "55", "cpu.max": "25000 100000", "cpuset.cpus": "0",
	} {
		if got := arrived(t, pid, "memory", file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	// Runtimes differ in how they make a weight of shares.
	if got := arrived(t, pid, "memory", "cpu.weight"); got != "20" && got != "59" {
		t.Errorf("cpu.weight is %q for 512 shares", got)
	}
}

func nodeUpdates(t *testing.T, h *Harness) {
	pod := h.RunPod(kubeletPod(h, "updates"))
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuPeriod: 100_000, CpuQuota: 25_000, MemoryLimitInBytes: 64 << 20}
	id := pod.Run(config)
	for _, memory := range []int64{128 << 20, 96 << 20} {
		change := &runtimeapi.LinuxContainerResources{CpuPeriod: 100_000, CpuQuota: 50_000, MemoryLimitInBytes: memory}
		if err := update(h.Client, id, change); err != nil {
			t.Fatal(err)
		}
		pid := h.ContainerPID(id)
		limit, quota := "memory.limit_in_bytes", "cpu.cfs_quota_us"
		want := "50000"
		if _, v2 := cgroupOf(t, pid, "memory"); v2 {
			limit, quota, want = "memory.max", "cpu.max", "50000 100000"
		}
		if got := arrived(t, pid, "memory", limit); got != strconv.FormatInt(memory, 10) {
			t.Errorf("%s is %s, want %d", limit, got, memory)
		}
		if got := arrived(t, pid, "cpu", quota); got != want {
			t.Errorf("%s is %s, want %s", quota, got, want)
		}
		if got := h.ContainerStatus(id).GetResources().GetLinux().GetMemoryLimitInBytes(); got != memory {
			t.Errorf("the status says %d, want %d", got, memory)
		}
	}
}

// nodeOutOfMemory: each kill is reported as one, however fast the cgroup goes; that of another
// container of the pod is not.
func nodeOutOfMemory(t *testing.T, h *Harness) {
	pod := h.RunPod(kubeletPod(h, "oom"))
	bystander := pod.Run(h.ContainerConfig("bystander"))
	for i := range 5 {
		config := h.ContainerConfig(fmt.Sprint("hog-", i), "sh", "-c", "x=x; while :; do x=$x$x; done")
		config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 24 << 20}
		status := h.WaitExit(pod.Run(config))
		if status.ExitCode != 137 || status.Reason != "OOMKilled" {
			t.Errorf("kill %d: exit code %d, reason %q; want 137, OOMKilled", i, status.ExitCode, status.Reason)
		}
	}
	if err := unix.Kill(h.ContainerPID(bystander), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := h.WaitExit(bystander); status.ExitCode != 137 || status.Reason != "Error" {
		t.Errorf("the bystander: exit code %d, reason %q; want 137, Error", status.ExitCode, status.Reason)
	}
}

func nodeFigures(t *testing.T, h *Harness) {
	pod := h.RunPod(kubeletPod(h, "figures"))
	id := pod.Run(h.ContainerConfig("c", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 3600"))
	h.Eventually("the container's figures are there", func() bool {
		answer, err := h.Runtime.ContainerStats(h.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		s := answer.Stats
		return s.GetCpu().GetUsageCoreNanoSeconds().GetValue() > 0 && s.GetMemory().GetWorkingSetBytes().GetValue() > 0
	})
	h.Eventually("the pod's figures are there", func() bool {
		answer, err := h.Runtime.PodSandboxStats(h.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod.ID})
		if err != nil {
			t.Fatal(err)
		}
		linux := answer.Stats.GetLinux()
		return linux.GetCpu().GetUsageCoreNanoSeconds().GetValue() > 0 && linux.GetProcess().GetProcessCount().GetValue() > 0
	})
}

// nodeExitWithoutMonitor ends a container while no monitor is its parent. What the kernel cannot
// tell is reported as unknown, with the reason, and the pod ends as any other.
func nodeExitWithoutMonitor(t *testing.T, h *Harness) {
	pod := h.RunPod(kubeletPod(h, "gap"))
	ended, stopped := pod.Run(h.ContainerConfig("ended")), pod.Run(h.ContainerConfig("stopped"))
	pid := h.ContainerPID(ended)
	for _, monitor := range h.MonitorPIDs() {
		if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	status := h.WaitExit(ended)
	if status.ExitCode != 137 && (status.ExitCode != -1 || status.Message == "") {
		t.Errorf("exit code %d, message %q; want 137, or -1 with a reason", status.ExitCode, status.Message)
	}
	h.StopContainer(stopped, 0)
	if state := h.ContainerStatus(stopped).State; state != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("the other container is %s", state)
	}
	pod.Stop()
	pod.Remove()
}
