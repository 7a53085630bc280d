package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const unknownID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// badPods are requests for pods that cannot be.
var badPods = map[string]struct {
	change func(r *runtimeapi.RunPodSandboxRequest)
	code   codes.Code
	words  []string
}{
	"no config":    {func(r *runtimeapi.RunPodSandboxRequest) { r.Config = nil }, codes.InvalidArgument, []string{"config"}},
	"no metadata":  {func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata = nil }, codes.InvalidArgument, []string{"metadata"}},
	"no name":      {func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Name = "" }, codes.InvalidArgument, []string{"metadata.name"}},
	"no namespace": {func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Namespace = "" }, codes.InvalidArgument, []string{"metadata.namespace"}},
	"no uid":       {func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Uid = "" }, codes.InvalidArgument, []string{"metadata.uid"}},
	"name with path elements": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Name = "../../etc" }, codes.InvalidArgument, []string{"metadata.name"},
	},
	"unknown handler": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.RuntimeHandler = "nonsense" }, codes.InvalidArgument, []string{"runtime_handler", "nonsense"},
	},
	"hostname with a newline": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Hostname = "a\nb" }, codes.InvalidArgument, []string{"hostname"},
	},
	"hostname too long": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Hostname = strings.Repeat("a", 65) }, codes.InvalidArgument, []string{"hostname"},
	},
	"relative log directory": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.Config.LogDirectory = "logs" }, codes.InvalidArgument, []string{"log_directory"},
	},
	"DNS server that is none": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"1.2.3.4\nsearch evil"}}
		}, codes.InvalidArgument, []string{"dns_config.servers"},
	},
	"cgroup parent that leads elsewhere": {
		func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Linux.CgroupParent = "/../../etc" }, codes.InvalidArgument, []string{"cgroup"},
	},
	// CVE-2022-0811: one value that smuggles another.
	"CVE-2022-0811: sysctl that smuggles another": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil"}
		}, codes.InvalidArgument, []string{"sysctl"},
	},
	// CVE-2022-0532: in the node's namespace it would change the node.
	"CVE-2022-0532: sysctl of the node's network": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
			r.Config.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "0"}
		}, codes.InvalidArgument, []string{"sysctl"},
	},
	"sysctl that isn't namespaced": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Linux.Sysctls = map[string]string{"vm.overcommit_memory": "1"}
		}, codes.InvalidArgument, []string{"sysctl"},
	},
	"host address that is none": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80, ContainerPort: 80}, {HostPort: 81, ContainerPort: 80, HostIp: "10.0.0.0/8; flush"}}
		}, codes.InvalidArgument, []string{"port_mappings[1].host_ip", "10.0.0.0/8; flush"},
	},
	"container port of zero": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80}}
		}, codes.InvalidArgument, []string{"port_mappings[0].container_port", "0 is not a port"},
	},
	"protocol that is none": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: 17}}
		}, codes.InvalidArgument, []string{"port_mappings[0].protocol", `"17"`},
	},
	"one host port to two container ports": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 31999, ContainerPort: 80}, {HostPort: 31999, ContainerPort: 81}}
		}, codes.InvalidArgument, []string{"31999/tcp", "twice"},
	},
	"port out of range": {
		func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 70000, ContainerPort: 80}}
		}, codes.InvalidArgument, []string{"port_mappings[0].host_port"},
	},
}

// TestBadPods asks for pods that cannot be: each is refused with the right code and a
// message that names the field, and leaves nothing.
func TestBadPods(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	for name, c := range badPods {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			request := &runtimeapi.RunPodSandboxRequest{Config: h.PodConfig("bad")}
			c.change(request)
			answer, err := h.Runtime.RunPodSandbox(h.Context(), request)
			if err == nil {
				h.removePod(answer.PodSandboxId)
				t.Fatal("it ran")
			}
			h.Refused(err, c.code, c.words...)
		})
	}
	list, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("pods are left: %v, %v", list, err)
	}
	h.Audit()
}

// badContainers are requests for containers that cannot be.
var badContainers = map[string]struct {
	change func(r *runtimeapi.CreateContainerRequest)
	code   codes.Code
	words  []string
}{
	"no config":   {func(r *runtimeapi.CreateContainerRequest) { r.Config = nil }, codes.InvalidArgument, []string{"config"}},
	"no metadata": {func(r *runtimeapi.CreateContainerRequest) { r.Config.Metadata = nil }, codes.InvalidArgument, []string{"metadata"}},
	"no name":     {func(r *runtimeapi.CreateContainerRequest) { r.Config.Metadata.Name = "" }, codes.InvalidArgument, []string{"metadata.name"}},
	"name with path elements": {
		func(r *runtimeapi.CreateContainerRequest) { r.Config.Metadata.Name = "a/../../b" }, codes.InvalidArgument, []string{"metadata.name"},
	},
	"no image": {func(r *runtimeapi.CreateContainerRequest) { r.Config.Image = nil }, codes.InvalidArgument, []string{"image"}},
	"unknown image": {func(r *runtimeapi.CreateContainerRequest) {
		r.Config.Image.Image = strings.Replace(r.Config.Image.Image, "busybox", "absent", 1)
	}, codes.NotFound, []string{"image"}},
	"no pod":      {func(r *runtimeapi.CreateContainerRequest) { r.PodSandboxId = "" }, codes.InvalidArgument, []string{"pod_sandbox_id"}},
	"unknown pod": {func(r *runtimeapi.CreateContainerRequest) { r.PodSandboxId = unknownID }, codes.NotFound, []string{"pod_sandbox_id"}},
	"log path that leads out": {
		func(r *runtimeapi.CreateContainerRequest) { r.Config.LogPath = "../../etc/cron.d/evil" }, codes.InvalidArgument, []string{"log_path"},
	},
	"log path with a NUL": {
		func(r *runtimeapi.CreateContainerRequest) { r.Config.LogPath = "a\x00b" }, codes.InvalidArgument, []string{"log_path"},
	},
	"relative working directory": {
		func(r *runtimeapi.CreateContainerRequest) { r.Config.WorkingDir = "tmp" }, codes.InvalidArgument, []string{"working_dir"},
	},
	"environment with a NUL": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("b\x00c")}}
		}, codes.InvalidArgument, []string{"envs[0]"},
	},
	"environment without a name": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Envs = []*runtimeapi.KeyValue{{Value: []byte("b")}}
		}, codes.InvalidArgument, []string{"envs[0]"},
	},
	"relative mount": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Mounts = []*runtimeapi.Mount{{HostPath: "/tmp", ContainerPath: "rel"}}
		}, codes.InvalidArgument, []string{"mounts[0]"},
	},
	"negative memory": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -5}
		}, codes.InvalidArgument, []string{"memory"},
	},
	// It would wrap to 0.
	"CVE-2024-40635: user out of range": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1 << 32}
		}, codes.InvalidArgument, []string{"run_as_user"},
	},
	"group without a user": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1}
		}, codes.InvalidArgument, []string{"run_as_group"},
	},
	"user that the image doesn't know": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Linux.SecurityContext.RunAsUsername = "stranger"
		}, codes.InvalidArgument, []string{"stranger"},
	},
	"unknown capability": {
		func(r *runtimeapi.CreateContainerRequest) {
			r.Config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"FLY"}}
		}, codes.InvalidArgument, []string{"FLY"},
	},
}

func TestBadContainers(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("good"))
	stopped := h.RunPod(h.PodConfig("stopped"))
	stopped.Stop()
	if err := os.MkdirAll(filepath.Join(pod.Config.LogDirectory, "bad"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range badContainers {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			request := &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: h.ContainerConfig("bad"), SandboxConfig: pod.Config}
			c.change(request)
			answer, err := h.Runtime.CreateContainer(h.Context(), request)
			if err == nil {
				h.RemoveContainer(answer.ContainerId)
				t.Fatal("it was created")
			}
			h.Refused(err, c.code, c.words...)
		})
	}
	t.Run("stopped pod", func(t *testing.T) {
		h := h.In(t)
		_, err := stopped.TryCreate(h.ContainerConfig("bad"))
		h.Refused(err, codes.FailedPrecondition, stopped.ID)
	})
	list, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(list.Containers) != 0 {
		t.Errorf("containers are left: %v, %v", list, err)
	}
	t.Run("log directory that is a file", func(t *testing.T) { badLogDirectory(t, h.In(t)) })
	t.Run("log that is a link, CVE-2025-0750", func(t *testing.T) { badLogLink(t, h.In(t), pod) })
}

func badLogDirectory(t *testing.T, h *Harness) {
	config := h.PodConfig("badlogs")
	file := filepath.Join(h.Share, "file")
	h.write(file, "")
	config.LogDirectory = filepath.Join(file, "logs")
	ran, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err == nil {
		// Nothing is written there before a container exists.
		defer h.removePod(ran.PodSandboxId)
		_, err = h.Runtime.CreateContainer(h.Context(), &runtimeapi.CreateContainerRequest{
			PodSandboxId: ran.PodSandboxId, Config: h.ContainerConfig("c"), SandboxConfig: config,
		})
	}
	if err == nil {
		t.Fatal("a container was created whose log cannot be")
	}
	if !strings.Contains(err.Error(), "log") || status.Code(err) == codes.Unknown {
		t.Errorf("got %v, want an error that names the log", err)
	}
}

func badLogLink(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("linked")
	path := filepath.Join(pod.Config.LogDirectory, config.LogPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(h.Share, "precious")
	h.write(target, "precious")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if id, err := pod.TryCreate(config); err == nil {
		h.StartContainer(id)
		h.RemoveContainer(id)
	}
	if content, err := os.ReadFile(target); err != nil || string(content) != "precious" {
		t.Errorf("a log went through a link: %q, %v", content, err)
	}
	// A directory on the way, too.
	config.Metadata.Attempt, config.LogPath = 1, filepath.Join("out", "0.log")
	elsewhere := filepath.Join(h.Share, "elsewhere")
	if err := errors.Join(os.Mkdir(elsewhere, 0o755), os.Symlink(elsewhere, filepath.Join(pod.Config.LogDirectory, "out"))); err != nil {
		t.Fatal(err)
	}
	if id, err := pod.TryCreate(config); err == nil {
		h.StartContainer(id)
		h.RemoveContainer(id)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("a log went through a link to a directory: %v, %v", left, err)
	}
}

func TestUnknownIDs(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	ctx := h.Context()
	for name, call := range map[string]func(id string) error{
		"PodSandboxStatus": func(id string) error {
			_, err := h.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
			return err
		},
		"StartContainer": func(id string) error {
			_, err := h.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
			return err
		},
		"ContainerStatus": func(id string) error {
			_, err := h.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
			return err
		},
		"ReopenContainerLog": func(id string) error {
			_, err := h.Runtime.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			h.Refused(call(unknownID), codes.NotFound, "id", unknownID)
			h.Refused(call(""), codes.InvalidArgument, "id")
		})
	}
	// What is not built yet is refused.
	_, err := h.Runtime.CheckpointContainer(ctx, &runtimeapi.CheckpointContainerRequest{ContainerId: unknownID})
	h.Refused(err, codes.Unimplemented)
}

// Calls in an order that the kubelet never has.
func TestStartOfAnEndedContainer(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("late"))
	id := pod.Run(h.ContainerConfig("c", "true"))
	h.WaitExit(id)
	before := h.ContainerStatus(id)
	// A repeated call must not run it again.
	_, err := h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
	if err != nil {
		h.Refused(err, codes.FailedPrecondition)
	}
	if after := h.ContainerStatus(id); after.StartedAt != before.StartedAt || after.State != before.State {
		t.Errorf("an ended container was started again: %v", after)
	}
	_, err = pod.TryCreate(h.ContainerConfig("c", "true"))
	if err != nil {
		t.Errorf("the same request after the container ended: %v", err)
	}
	stopped := pod.Create(h.ContainerConfig("d"))
	pod.Stop()
	_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: stopped})
	h.Refused(err, codes.FailedPrecondition)
}
