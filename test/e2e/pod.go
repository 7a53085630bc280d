package e2e

import (
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodConfig is the configuration of a pod as the kubelet would make it. Each has
// a uid of its own.
func (h *Harness) PodConfig(name string) *runtimeapi.PodSandboxConfig {
	h.t.Helper()
	uid := fmt.Sprintf("uid-%d-%d", h.Number, h.serial.Add(1))
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "e2e", Uid: uid},
		Hostname:     name,
		LogDirectory: filepath.Join(h.Logs, name+"_"+uid),
		Labels:       map[string]string{"pod": name, "suite": "e2e"},
		Annotations:  map[string]string{"note": "of " + name},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: h.CgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// Pod is a sandbox that runs.
type Pod struct {
	ID     string
	Config *runtimeapi.PodSandboxConfig
	h      *Harness
}

// RunPod runs a pod, which is removed at the test's end.
func (h *Harness) RunPod(config *runtimeapi.PodSandboxConfig) *Pod {
	h.t.Helper()
	id, err := h.TryRunPod(config)
	if err != nil {
		h.t.Fatalf("run pod %s: %v", config.Metadata.Name, err)
	}
	h.t.Cleanup(func() { h.removePod(id) })
	return &Pod{ID: id, Config: config, h: h}
}

// TryRunPod calls RunPodSandbox.
func (h *Harness) TryRunPod(config *runtimeapi.PodSandboxConfig) (string, error) {
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil && config.LogDirectory != "" {
		return "", err
	}
	answer, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	return answer.GetPodSandboxId(), err
}

// Stop stops the pod.
func (p *Pod) Stop() {
	p.h.t.Helper()
	if _, err := p.h.Runtime.StopPodSandbox(p.h.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		p.h.t.Fatalf("stop pod %s: %v", p.ID, err)
	}
}

// Remove stops and removes the pod.
func (p *Pod) Remove() {
	p.h.t.Helper()
	p.h.removePod(p.ID)
}

// Status asks for the pod's status, verbose.
func (p *Pod) Status() *runtimeapi.PodSandboxStatusResponse {
	p.h.t.Helper()
	answer, err := p.h.Runtime.PodSandboxStatus(p.h.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: p.ID, Verbose: true})
	if err != nil {
		p.h.t.Fatalf("status of pod %s: %v", p.ID, err)
	}
	return answer
}

// IP is the pod's first address.
func (p *Pod) IP() string {
	p.h.t.Helper()
	return p.Status().Status.GetNetwork().GetIp()
}

// ContainerConfig is the configuration of a container that runs a command in the
// busybox image; without a command, it sleeps.
func (h *Harness) ContainerConfig(name string, command ...string) *runtimeapi.ContainerConfig {
	if len(command) == 0 {
		command = []string{"sleep", "3600"}
	}
	return &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: name},
		Image:       &runtimeapi.ImageSpec{Image: h.Busybox},
		Command:     command,
		Labels:      map[string]string{"container": name, "suite": "e2e"},
		Annotations: map[string]string{"note": "of " + name},
		LogPath:     filepath.Join(name, "0.log"),
		Linux:       &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{}},
	}
}

// TesterConfig is the same with the tester's image and one of its commands.
func (h *Harness) TesterConfig(name string, args ...string) *runtimeapi.ContainerConfig {
	config := h.ContainerConfig(name, "/tester")
	config.Image.Image, config.Args = h.Tester, args
	return config
}

// TryCreate calls CreateContainer. As the kubelet does, it makes the log's
// directory and sends the pod's namespace options with the container.
func (p *Pod) TryCreate(config *runtimeapi.ContainerConfig) (string, error) {
	if p.Config.LogDirectory != "" && config.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(p.Config.LogDirectory, config.LogPath)), 0o755); err != nil {
			return "", err
		}
	}
	config = proto.CloneOf(config)
	if sc := config.GetLinux().GetSecurityContext(); sc != nil && sc.NamespaceOptions == nil {
		sc.NamespaceOptions = p.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	}
	answer, err := p.h.Runtime.CreateContainer(p.h.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.ID, Config: config, SandboxConfig: p.Config,
	})
	return answer.GetContainerId(), err
}

// Create creates a container and returns its id.
func (p *Pod) Create(config *runtimeapi.ContainerConfig) string {
	p.h.t.Helper()
	id, err := p.TryCreate(config)
	if err != nil {
		p.h.t.Fatalf("create container %s: %v", config.Metadata.Name, err)
	}
	return id
}

// Run creates and starts a container and returns its id.
func (p *Pod) Run(config *runtimeapi.ContainerConfig) string {
	p.h.t.Helper()
	id := p.Create(config)
	p.h.StartContainer(id)
	return id
}

// Log reads the log of a container of the pod.
func (p *Pod) Log(config *runtimeapi.ContainerConfig) []LogLine {
	p.h.t.Helper()
	return p.h.ReadLog(filepath.Join(p.Config.LogDirectory, config.LogPath))
}
