package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rebooted is what the node remembers over its reboot.
type rebooted struct {
	Args                []string
	Socket, IPAM, Image string
	Pod, Running, Ended string
	Config              *runtimeapi.PodSandboxConfig
}

const rebootMemory = "/var/tmp/stele-e2e-reboot.json"

// TestReboot reboots the node: in the guest of package test/vm, which says before and after.
func TestReboot(t *testing.T) {
	switch os.Getenv("STELE_E2E_REBOOT") {
	case "before":
		beforeReboot(t)
	case "after":
		afterReboot(t)
	default:
		t.Skip("it reboots the node")
	}
}

func beforeReboot(t *testing.T) {
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("rebooted"))
	ended := pod.Run(h.ContainerConfig("ended", "sh", "-c", "exit 7"))
	h.WaitExit(ended)
	memory := rebooted{
		Args: h.arguments(), Socket: h.Socket, IPAM: filepath.Join(filepath.Dir(h.Root), "ipam"), Image: h.Busybox,
		Pod: pod.ID, Running: pod.Run(h.ContainerConfig("running")), Ended: ended, Config: h.PodConfig("later"),
	}
	data, err := json.Marshal(memory)
	if err != nil {
		t.Fatal(err)
	}
	h.write(rebootMemory, string(data))
	unix.Sync()
	if out, err := exec.Command("systemctl", "--no-block", "reboot").CombinedOutput(); err != nil {
		t.Fatalf("reboot: %v: %s", err, out)
	}
	select {} // until systemd ends this process with all others
}

func afterReboot(t *testing.T) {
	data, err := os.ReadFile(rebootMemory)
	if err != nil {
		t.Fatal(err)
	}
	var m rebooted
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	withoutRegistry(t, m.Args[slices.Index(m.Args, "--config")+1])
	daemon := exec.Command(programs.Stele, m.Args...)
	log := &strings.Builder{}
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", log)
		}
	})
	c := Connect(t, m.Socket)
	c.Eventually("the daemon serves", func() bool {
		_, err := c.Runtime.Version(c.Context(), &runtimeapi.VersionRequest{})
		return err == nil
	})
	status, err := c.Runtime.PodSandboxStatus(c.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: m.Pod})
	if err != nil || status.Status.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the pod after the reboot: %v, %v", status, err)
	}
	if s := c.ContainerStatus(m.Running); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || !strings.Contains(s.Message, "reboot") {
		t.Errorf("what ran: %s, code %d, message %q", s.State, s.ExitCode, s.Message)
	}
	if s := c.ContainerStatus(m.Ended); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 7 {
		t.Errorf("what had ended: %s, code %d", s.State, s.ExitCode)
	}
	c.removePod(m.Pod)
	c.Eventually("the addresses of before are free", func() bool {
		left, err := filepath.Glob(filepath.Join(m.IPAM, "*", "10.*"))
		return err == nil && len(left) == 0
	})
	ran, err := c.Runtime.RunPodSandbox(c.Context(), &runtimeapi.RunPodSandboxRequest{Config: m.Config})
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Runtime.CreateContainer(c.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: ran.PodSandboxId, SandboxConfig: m.Config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: m.Image}, Command: []string{"sleep", "3600"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.StartContainer(made.ContainerId)
	c.Exec(made.ContainerId, "true")
	c.removePod(ran.PodSandboxId)
}

// withoutRegistry takes the registry out of a configuration: it went with the reboot.
func withoutRegistry(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "registries_conf") {
			kept.WriteString(line)
		}
	}
	if err := os.WriteFile(path, []byte(kept.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
