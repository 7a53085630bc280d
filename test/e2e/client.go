package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Context bounds one call.
func (h *Harness) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

// Pull pulls an image and returns its id.
func (h *Harness) Pull(image string) string {
	h.t.Helper()
	pulled, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		h.t.Fatalf("pull %s: %v", image, err)
	}
	return pulled.ImageRef
}

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

// RunPod runs a pod that is removed at the test's end, if it is there then.
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

// removePod stops and removes a pod; both succeed when it is gone.
func (h *Harness) removePod(id string) {
	h.t.Helper()
	if _, err := h.Runtime.StopPodSandbox(h.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		h.t.Errorf("stop pod %s: %v", id, err)
	}
	if _, err := h.Runtime.RemovePodSandbox(h.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		h.t.Errorf("remove pod %s: %v", id, err)
	}
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

// TesterConfig is the same with the tester's image and a command of its.
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

// StartContainer starts a container.
func (h *Harness) StartContainer(id string) {
	h.t.Helper()
	if _, err := h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		h.t.Fatalf("start container %s: %v", id, err)
	}
}

// StopContainer stops a container with a grace period in seconds.
func (h *Harness) StopContainer(id string, grace int64) {
	h.t.Helper()
	if _, err := h.Runtime.StopContainer(h.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
		h.t.Fatalf("stop container %s: %v", id, err)
	}
}

// RemoveContainer removes a container.
func (h *Harness) RemoveContainer(id string) {
	h.t.Helper()
	if _, err := h.Runtime.RemoveContainer(h.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		h.t.Fatalf("remove container %s: %v", id, err)
	}
}

// ContainerStatus asks for a container's status.
func (h *Harness) ContainerStatus(id string) *runtimeapi.ContainerStatus {
	h.t.Helper()
	answer, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		h.t.Fatalf("status of container %s: %v", id, err)
	}
	return answer.Status
}

// ContainerPID is the pid of a container's init on the node, from the status's
// verbose information.
func (h *Harness) ContainerPID(id string) int {
	h.t.Helper()
	answer, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		h.t.Fatalf("status of container %s: %v", id, err)
	}
	var info struct {
		Process struct{ PID int }
	}
	if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil || info.Process.PID <= 0 {
		h.t.Fatalf("the verbose status of container %s has no pid: %v in %q", id, err, answer.Info)
	}
	return info.Process.PID
}

// WaitExit waits for a container's end.
func (h *Harness) WaitExit(id string) *runtimeapi.ContainerStatus {
	h.t.Helper()
	var last *runtimeapi.ContainerStatus
	h.Eventually("container "+id+" ends", func() bool {
		last = h.ContainerStatus(id)
		return last.State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return last
}

// ExecSync runs a command in a container.
func (h *Harness) ExecSync(id string, command ...string) *runtimeapi.ExecSyncResponse {
	h.t.Helper()
	answer, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command})
	if err != nil {
		h.t.Fatalf("exec %q in %s: %v", command, id, err)
	}
	return answer
}

// Exec runs a command in a container that must succeed and returns its output.
func (h *Harness) Exec(id string, command ...string) string {
	h.t.Helper()
	answer := h.ExecSync(id, command...)
	if answer.ExitCode != 0 {
		h.t.Fatalf("exec %q in %s: exit code %d, stderr %q", command, id, answer.ExitCode, answer.Stderr)
	}
	return strings.TrimRight(string(answer.Stdout), "\n")
}

// Refused checks that err has the code and that its message has each of the
// words.
func (h *Harness) Refused(err error, code codes.Code, words ...string) {
	h.t.Helper()
	if status.Code(err) != code {
		h.t.Errorf("got %v, want the code %s", err, code)
	}
	for _, word := range words {
		if err != nil && !strings.Contains(err.Error(), word) {
			h.t.Errorf("got %q, want a message with %q", err, word)
		}
	}
}

// LogLine is a record of a container's log.
type LogLine struct {
	Time              time.Time
	Stream, Tag, Text string
}

// ReadLog reads a log in the CRI's format; a file that is not there is empty. A
// last line that has no end yet is left out.
func (h *Harness) ReadLog(path string) []LogLine {
	h.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	var lines []LogLine
	for line := range strings.Lines(string(content)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(parts) != 4 {
			h.t.Fatalf("%s: %q is not TIME STREAM TAG TEXT", path, line)
		}
		at, err := time.Parse(time.RFC3339Nano, parts[0])
		if err != nil {
			h.t.Fatalf("%s: %v", path, err)
		}
		lines = append(lines, LogLine{at, parts[1], parts[2], parts[3]})
	}
	return lines
}
