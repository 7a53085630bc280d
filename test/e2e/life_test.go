package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestLife is the whole life of a pod with one container, step by step.
func TestLife(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})

	config := h.PodConfig("life")
	pod := h.RunPod(config)
	status := pod.Status()
	if got := status.Status; got.State != runtimeapi.PodSandboxState_SANDBOX_READY || got.Metadata.String() != config.Metadata.String() ||
		got.Labels["pod"] != "life" || got.Annotations["note"] != "of life" || got.CreatedAt == 0 {
		t.Errorf("the pod's status is not what was asked for: %v", got)
	}
	ip, err := netip.ParseAddr(pod.IP())
	if err != nil || !netip.MustParsePrefix(h.Gateway()+"/24").Masked().Contains(ip) {
		t.Errorf("the pod's address is %q, want one of the bridge's", pod.IP())
	}

	containerLives(t, h, pod, ip)

	pod.Stop()
	if state := pod.Status().Status.State; state != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the pod is %s after StopPodSandbox", state)
	}
	events := h.Stele("events", "-o", "wide", pod.ID)
	for _, event := range []string{"SandboxRequested", "NetworkAttached", "SandboxReady", "NetworkDetached", "SandboxStopped"} {
		if !strings.Contains(events, event) {
			t.Errorf("the pod's history has no %s:\n%s", event, events)
		}
	}
	pod.Remove()
	if list, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{}); err != nil || len(list.Items) != 0 {
		t.Errorf("after RemovePodSandbox there are %v, %v", list, err)
	}
	// The history outlives the pod.
	if events := h.Stele("events", "-o", "wide", pod.ID); !strings.Contains(events, "SandboxRemoved") {
		t.Errorf("the history of a removed pod doesn't say so:\n%s", events)
	}
}

// containerLives is the whole life of a container in a pod that lives on.
func containerLives(t *testing.T, h *Harness, pod *Pod, ip netip.Addr) {
	container := h.TesterConfig("server", "serve", ":8080")
	id := pod.Create(container)
	created := h.ContainerStatus(id)
	if created.State != runtimeapi.ContainerState_CONTAINER_CREATED || created.CreatedAt == 0 || created.StartedAt != 0 {
		t.Errorf("after CreateContainer: %v", created)
	}
	h.StartContainer(id)
	running := h.ContainerStatus(id)
	if running.State != runtimeapi.ContainerState_CONTAINER_RUNNING || running.StartedAt < created.CreatedAt || running.FinishedAt != 0 {
		t.Errorf("after StartContainer: %v", running)
	}
	if running.Metadata.Name != "server" || running.Image.GetImage() != h.Tester || running.ImageRef == "" ||
		running.Labels["container"] != "server" || running.Annotations["note"] != "of server" ||
		running.LogPath != pod.Config.LogDirectory+"/server/0.log" {
		t.Errorf("the container's status is not what was asked for: %v", running)
	}
	h.Reachable(ip.String() + ":8080").Close()
	if out := h.Exec(id, "/tester", "report"); !strings.Contains(out, `"Hostname":"life"`) {
		t.Errorf("in the container: %s", out)
	}

	if shown := h.Stele("inspect", pod.ID[:12]); !strings.Contains(shown, pod.ID) || !strings.Contains(shown, id) || !strings.Contains(shown, "Pod e2e/life is ready") {
		t.Errorf("stele inspect doesn't show the pod and its container:\n%s", shown)
	}

	h.StopContainer(id, 10)
	exited := h.ContainerStatus(id)
	// The server chooses its exit code at SIGTERM.
	if exited.State != runtimeapi.ContainerState_CONTAINER_EXITED || exited.ExitCode != 3 || exited.FinishedAt < running.StartedAt || exited.Reason == "" {
		t.Errorf("after StopContainer: %v", exited)
	}
	if ready := pod.Status().Status.State; ready != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("the pod is %s after its container ended", ready)
	}
	h.RemoveContainer(id)
	if list, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{}); err != nil || len(list.Containers) != 0 {
		t.Errorf("after RemoveContainer there are %v, %v", list, err)
	}
}

// A pod that is removed takes its running containers with it.
func TestRemovePodWithRunningContainers(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("full"))
	pod.Run(h.ContainerConfig("a"))
	pod.Run(h.ContainerConfig("b", "sh", "-c", "trap '' TERM; sleep 3600 & sleep 3600"))
	pod.Create(h.ContainerConfig("c"))
	if _, err := h.Runtime.RemovePodSandbox(h.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.ID}); err != nil {
		t.Fatal(err)
	}
	list, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(list.Containers) != 0 {
		t.Errorf("containers outlive their pod: %v, %v", list, err)
	}
	h.Audit()
}

func TestVerboseStatus(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("talk"))
	config := h.ContainerConfig("c")
	config.Envs = []*runtimeapi.KeyValue{{Key: "TOKEN", Value: []byte("hush-hush")}}
	id := pod.Run(config)
	h.ContainerPID(id)

	status := pod.Status()
	if len(status.ContainersStatuses) != 1 || status.ContainersStatuses[0].Id != id || status.Timestamp != 0 {
		t.Errorf("PodSandboxStatus doesn't show its container: %v", status)
	}
	container, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range []map[string]string{status.Info, container.Info} {
		if !json.Valid([]byte(info["info"])) {
			t.Errorf("the verbose information is not JSON: %q", info)
		}
		if strings.Contains(info["info"], "hush-hush") {
			t.Errorf("the verbose information tells a secret: %q", info)
		}
	}
	scriptsFind(t, status.Info, container.Info)
	quiet, err := h.Runtime.PodSandboxStatus(h.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.ID})
	if err != nil || len(quiet.Info) != 0 {
		t.Errorf("information that nobody asked for: %v, %v", quiet, err)
	}
}

// scriptsFind looks for what scripts look up in the verbose information of a pod with a
// network of its own and its container, and checks that it leads to them.
func scriptsFind(t *testing.T, pod, container map[string]string) {
	t.Helper()
	type spec struct {
		Linux struct {
			Namespaces  []struct{ Type, Path string }
			CgroupsPath string
		}
	}
	var p struct {
		NetNS       string
		CgroupPath  string
		Config      struct{ Metadata struct{ Name string } }
		RuntimeSpec spec
	}
	var c struct {
		SandboxID, NetNS, CgroupPath, ImageID, LogPath string
		PID                                            int
		Config                                         struct{ Metadata struct{ Name string } }
		RuntimeSpec                                    spec
	}
	if err := errors.Join(json.Unmarshal([]byte(pod["info"]), &p), json.Unmarshal([]byte(container["info"]), &c)); err != nil {
		t.Fatal(err)
	}
	if p.Config.Metadata.Name != "talk" || c.Config.Metadata.Name != "c" || c.SandboxID == "" || c.ImageID == "" || c.LogPath == "" {
		t.Errorf("scripts find\n%+v\n%+v", p, c)
	}
	network := ""
	for _, n := range p.RuntimeSpec.Linux.Namespaces {
		if n.Type == "network" {
			network = n.Path
		}
	}
	inode := func(path string) uint64 {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return stat.Ino
	}
	if of := inode(fmt.Sprintf("/proc/%d/ns/net", c.PID)); network != p.NetNS || network != c.NetNS || inode(network) != of {
		t.Errorf("the network namespaces are %q, %q and %q, and the container's is %d", network, p.NetNS, c.NetNS, of)
	}
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID))
	if err != nil || !strings.Contains(string(cgroups), c.CgroupPath+"\n") || !strings.HasPrefix(c.CgroupPath, p.CgroupPath+"/") {
		t.Errorf("the container is in\n%s, %v, and is said to be in %q of %q", cgroups, err, c.CgroupPath, p.CgroupPath)
	}
}

// Status says that mounts take options, and they do.
func TestMountOptions(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	if status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{}); err != nil || !status.Features.GetMountOptions() {
		t.Errorf("the features are %v, %v", status.GetFeatures(), err)
	}
	program := filepath.Join(h.Share, "program")
	h.write(program, "#!/bin/sh\necho ran\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	pod := h.RunPod(h.PodConfig("options"))
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: h.Share, ContainerPath: "/plain"},
		{HostPath: h.Share, ContainerPath: "/bound", MountOptions: []string{"noexec", "nosuid", "nodev"}},
	}
	id := pod.Run(config)
	if got := h.Exec(id, "/plain/program"); got != "ran" {
		t.Errorf("got %q", got)
	}
	if answer := h.ExecSync(id, "sh", "-c", "/bound/program"); answer.ExitCode != 126 {
		t.Errorf("a program on a mount with noexec: %v", answer)
	}
	bound := h.Exec(id, "grep", " /bound ", "/proc/mounts")
	for _, option := range []string{"noexec", "nosuid", "nodev"} {
		if !strings.Contains(bound, option) {
			t.Errorf("the mount is %q, without %s", bound, option)
		}
	}
	for _, option := range []string{"exec", "rw", "noexec,dev", "", "bind\x00"} {
		config := h.ContainerConfig("bad")
		config.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/bad", MountOptions: []string{option}}}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "mounts[0].mount_options")
	}
}
