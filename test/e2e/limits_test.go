package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// administrators is a configuration of what the administrator decides for all containers, and
// for those of the handler runc.
const administrators = `
[runtime]
default_ulimits = ["nofile=512:1024", "core=0:0"]
pids_limit = 77
default_capabilities = ["CHOWN", "CAP_NET_BIND_SERVICE"]
add_inheritable_capabilities = true
default_env = ["FROM_NODE=yes", "PATH=/node"]
additional_devices = ["DIR/kmsg:/dev/messages:r"]
allowed_devices = ["/dev/full"]
device_ownership_from_security_context = true
seccomp_profile = "DIR/profile.json"
privileged_seccomp_profile = "DIR/profile.json"
[runtime.handlers.runc]
path = "runc"
allowed_annotations = ["io.kubernetes.cri-o.Devices", "example.com/allowed"]
container_min_memory = "32MiB"
container_create_timeout = 60
[runtime.handlers.runc.default_annotations]
"example.com/default" = "of the node"
`

// withoutMkdir is a seccomp profile in which nobody makes directories.
const withoutMkdir = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`

// TestAdministratorsOptions sees from inside what the configuration decides.
func TestAdministratorsOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "profile.json"), []byte(withoutMkdir), 0o644); err != nil {
		t.Fatal(err)
	}
	// The kernel's messages, since the runtime allows /dev/null and its like by itself.
	if err := unix.Mknod(filepath.Join(dir, "kmsg"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))); err != nil {
		t.Fatal(err)
	}
	h := New(t, programs, Options{Config: strings.ReplaceAll(administrators, "DIR", dir)})
	pod := h.RunPod(h.PodConfig("options"))
	t.Run("limits", func(t *testing.T) { optionsLimits(t, h.In(t), pod) })
	t.Run("capabilities and environment", func(t *testing.T) { optionsCapabilities(t, h.In(t), pod) })
	t.Run("devices", func(t *testing.T) { optionsDevices(t, h.In(t)) })
	t.Run("seccomp", func(t *testing.T) { optionsSeccomp(t, h.In(t), pod) })
	t.Run("annotations", func(t *testing.T) { optionsAnnotations(t, h.In(t)) })
	t.Run("a plug-in's memory limit", func(t *testing.T) {
		h := h.In(t)
		addPlugin(h, "10", "small", &plugin{Create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			a := &api.ContainerAdjustment{}
			a.SetLinuxMemoryLimit(16 << 20)
			return a, nil, nil
		}})
		_, err := pod.TryCreate(h.ContainerConfig("small"))
		if err == nil || !strings.Contains(err.Error(), "linux.resources.memory.limit") || !strings.Contains(err.Error(), "10-small") {
			t.Errorf("got %v, want a refusal of a limit below container_min_memory", err)
		}
	})
}

func optionsLimits(t *testing.T, h *Harness, pod *Pod) {
	id := pod.Run(h.ContainerConfig("limits"))
	if got := h.Exec(id, "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"); got != "512\n1024\n0" {
		t.Errorf("limits %q", got)
	}
	dir, _ := cgroupOf(t, h.ContainerPID(id), "pids")
	if got, err := os.ReadFile(filepath.Join(dir, "pids.max")); err != nil || strings.TrimSpace(string(got)) != "77" {
		t.Errorf("pids.max is %q, %v", got, err)
	}
	config := h.ContainerConfig("little")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 16 << 20}
	_, err := pod.TryCreate(config)
	h.Refused(err, codes.InvalidArgument, "memory_limit_in_bytes", "16777216", "33554432")
	// An update keeps to the least, too, and changes nothing.
	config = h.ContainerConfig("enough")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 50_000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	id = pod.Run(config)
	err = update(h.Client, id, &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, CpuShares: 2})
	h.Refused(err, codes.InvalidArgument, "linux.memory_limit_in_bytes", "16777216", "33554432")
	expectResources(h, id, config.Linux.Resources)
	noRoom(t, h)
}

// noRoom: a pod whose cgroup has less memory than the least is refused, and not only its containers.
func noRoom(t *testing.T, h *Harness) {
	first := kubeletPod(h, "tiny")
	dir, v2 := cgroupOf(t, h.ContainerPID(h.RunPod(first).Run(h.ContainerConfig("c"))), "memory")
	file := "memory.limit_in_bytes"
	if v2 {
		file = "memory.max"
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), file), []byte("16777216"), 0); err != nil {
		t.Fatal(err)
	}
	second := h.PodConfig("tiny-too")
	second.Linux.CgroupParent = first.Linux.CgroupParent
	_, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: second})
	h.Refused(err, codes.InvalidArgument, "linux.cgroup_parent", first.Linux.CgroupParent, "16777216", "33554432")
}

// TestNoLimitOfProcesses: where nobody sets one, systemd sets none for the scope either.
func TestNoLimitOfProcesses(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "\n[runtime]\npids_limit = -1\n"})
	dir, _ := cgroupOf(t, h.ContainerPID(h.RunPod(h.PodConfig("free")).Run(h.ContainerConfig("c"))), "pids")
	if got, err := os.ReadFile(filepath.Join(dir, "pids.max")); err != nil || strings.TrimSpace(string(got)) != "max" {
		t.Errorf("pids.max is %q, %v", got, err)
	}
}

func optionsCapabilities(t *testing.T, h *Harness, pod *Pod) {
	r := pod.report(h, h.TesterConfig("capabilities", "report"))
	for _, set := range []string{"CapBnd", "CapPrm", "CapInh"} {
		if got := r.Status[set]; got != "0000000000000401" {
			t.Errorf("%s is %s", set, got)
		}
	}
	if value, _ := r.env("FROM_NODE"); value != "yes" {
		t.Errorf("FROM_NODE is %q", value)
	}
	config := h.TesterConfig("environment", "report")
	config.Envs = []*runtimeapi.KeyValue{{Key: "FROM_NODE", Value: []byte("of the pod")}}
	if value, times := pod.report(h, config).env("FROM_NODE"); value != "of the pod" || times != 1 {
		t.Errorf("FROM_NODE is %q, %d times", value, times)
	}
}

func optionsDevices(t *testing.T, h *Harness) {
	config := h.PodConfig("devices")
	config.Annotations["io.kubernetes.cri-o.Devices"] = "/dev/full:/dev/asked:rw"
	pod := h.RunPod(config)
	c := h.ContainerConfig("devices")
	c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1234}
	c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 567}
	id := pod.Run(c)
	if got := h.Exec(id, "stat", "-c", "%u:%g %t:%T", "/dev/messages", "/dev/asked"); got != "1234:567 1:b\n1234:567 1:7" {
		t.Errorf("devices %q", got)
	}
	if got := h.ExecSync(id, "sh", "-c", "echo x > /dev/messages"); got.ExitCode == 0 || !strings.Contains(string(got.Stderr), "not permitted") {
		t.Errorf("writing without permission: %v", got)
	}
	if got := h.ExecSync(id, "sh", "-c", "echo x > /dev/asked"); got.ExitCode == 0 || !strings.Contains(string(got.Stderr), "No space") {
		t.Errorf("writing: %v", got)
	}
	for value, words := range map[string][]string{
		// CVE-2023-6476: nothing but exact paths.
		"/dev/full2": {"not among the allowed"}, "/dev/../dev/full": {"absolute and clean"}, "/dev/null": {"not among the allowed"},
		"/dev/full:/proc/self/fd/3": {"process"}, "/dev/full:/dev/x:rx": {"permissions"}, "/dev/full:a:b:c": {"HOST:CONTAINER"},
	} {
		config := h.PodConfig("bad")
		config.Annotations["io.kubernetes.cri-o.Devices"] = value
		_, err := h.RunPod(config).TryCreate(h.ContainerConfig("c"))
		h.Refused(err, codes.InvalidArgument, append(words, "annotations[io.kubernetes.cri-o.Devices]")...)
	}
}

func optionsSeccomp(t *testing.T, h *Harness, pod *Pod) {
	made := func(pod *Pod, config *runtimeapi.ContainerConfig) bool {
		return h.ExecSync(pod.Run(config), "mkdir", "/dev/shm/"+config.Metadata.Name).ExitCode == 0
	}
	config := h.ContainerConfig("default")
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	if made(pod, config) {
		t.Error("the node's profile did not apply to RuntimeDefault")
	}
	config = h.ContainerConfig("unconfined")
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	if !made(pod, config) {
		t.Error("an unconfined container was confined")
	}
	privileged := h.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	config = h.ContainerConfig("privileged")
	config.Linux.SecurityContext.Privileged = true
	if made(h.RunPod(privileged), config) {
		t.Error("the node's profile did not apply to a privileged container")
	}
}

// optionsAnnotations: CVE-2024-3154, CVE-2023-6476.
func optionsAnnotations(t *testing.T, h *Harness) {
	config := h.PodConfig("annotations")
	for key, value := range map[string]string{
		"example.com/allowed": "by the pod", "example.com/allowed2": "no", "example.com/default": "not by the pod",
		"org.systemd.property.ExecStartPre": "['/bin/evil']",
	} {
		config.Annotations[key] = value
	}
	pod := h.RunPod(config)
	id := pod.Run(h.ContainerConfig("c"))
	answer, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ RuntimeSpec specs.Spec }
	if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"example.com/allowed": "by the pod", "example.com/allowed2": "", "example.com/default": "of the node",
		"org.systemd.property.ExecStartPre": "",
	} {
		if got := info.RuntimeSpec.Annotations[key]; got != want {
			t.Errorf("the runtime got %s=%q, want %q", key, got, want)
		}
	}
}

// TestMissingRuntime has a handler whose runtime is missing, and one that hangs: the others work,
// and it works once it is there.
func TestMissingRuntime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hanging := filepath.Join(dir, "hanging")
	if err := os.WriteFile(hanging, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent")
	h := New(t, programs, Options{Handlers: map[string]string{"absent": absent, "hanging": hanging}})
	pod := h.RunPod(h.PodConfig("good"))
	h.Exec(pod.Run(h.ContainerConfig("c")), "true")
	status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
	if err != nil || !status.Status.Conditions[0].Status {
		t.Errorf("the node is not ready: %v, %v", status, err)
	}
	for name, word := range map[string]string{"absent": absent, "hanging": "hanging"} {
		_, err = h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: h.PodConfig("bad"), RuntimeHandler: name})
		h.Refused(err, codes.Unavailable, "runtime_handler", name, word)
	}
	if err := os.Symlink(h.Programs.Runc, absent); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the handler works once its runtime is there", func() bool {
		answer, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: h.PodConfig("late"), RuntimeHandler: "absent"})
		if err == nil {
			h.removePod(answer.PodSandboxId)
		}
		return err == nil
	})
}
