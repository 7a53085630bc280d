package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// withGVisor returns the programs with gVisor as the runtime. The test is skipped where it is
// not installed or does not run.
func withGVisor(t *testing.T) *Programs {
	t.Helper()
	runsc := ""
	for _, candidate := range []string{os.Getenv("STELE_RUNSC"), "/usr/lib/stele/bin/runsc", "runsc"} {
		if path, err := exec.LookPath(candidate); err == nil {
			runsc = path
			break
		}
	}
	if runsc == "" {
		t.Skip("no runsc: `test/deps/install.sh test` installs it; nothing is seen of gVisor")
	}
	if os.Geteuid() == 0 {
		try := exec.Command(runsc, "--root", t.TempDir(), "--network=none", "--ignore-cgroups", "--gofer-network-namespace=new", "do", "true")
		if out, err := try.CombinedOutput(); err != nil {
			t.Skipf("gVisor does not run on this kernel: %v\n%s", err, out)
		}
	}
	return &Programs{
		Stele: programs.Stele, Monitor: programs.Monitor, Tester: programs.Tester, PluginDir: programs.PluginDir,
		NRIPlugin: programs.NRIPlugin, Runc: runsc, PluginDirs: programs.PluginDirs,
	}
}

// TestGVisor runs the core with gVisor as the only runtime.
func TestGVisor(t *testing.T) {
	t.Parallel()
	h := New(t, withGVisor(t), Options{})
	pod := h.RunPod(h.PodConfig("life"))
	t.Run("life", func(t *testing.T) { containerLives(t, h.In(t), pod, netip.MustParseAddr(pod.IP())) })
	t.Run("own kernel", func(t *testing.T) { gvisorKernel(t, h.In(t), pod) })
	t.Run("shared network", func(t *testing.T) { gvisorNetwork(t, h.In(t)) })
	t.Run("exec", func(t *testing.T) { gvisorExec(t, h.In(t), pod) })
	t.Run("streaming", func(t *testing.T) { gvisorStreams(h.In(t), pod) })
	t.Run("logs", func(t *testing.T) {
		logContent(t, h.In(t), pod)
		logTimesAscend(t, h.In(t), pod)
	})
	t.Run("stop", func(t *testing.T) {
		stopHandlesTheSignal(t, h.In(t), pod)
		stopIgnoresTheSignal(t, h.In(t), pod)
		stopNeverStarted(h.In(t), pod)
		removeWhileItRuns(t, h.In(t), pod)
	})
	t.Run("exit codes", func(t *testing.T) { gvisorExitCodes(t, h.In(t), pod) })
	t.Run("seccomp", func(t *testing.T) { gvisorSeccomp(t, h.In(t), pod) })
	t.Run("kills for want of memory", func(t *testing.T) { nodeOutOfMemory(t, h.In(t)) })
	t.Run("update", func(t *testing.T) { gvisorUpdate(t, h.In(t), pod) })
	t.Run("figures", func(t *testing.T) { nodeFigures(t, h.In(t)) })
	t.Run("daemon killed", func(t *testing.T) { gvisorDaemonKilled(t, h.In(t)) })
	t.Run("exit without a monitor", func(t *testing.T) { nodeExitWithoutMonitor(t, h.In(t)) })
	t.Run("refused", func(t *testing.T) { gvisorRefused(h.In(t)) })
}

// gvisorKernel sees that there is another kernel, with the pod's name and files.
func gvisorKernel(t *testing.T, h *Harness, pod *Pod) {
	id := pod.Run(h.ContainerConfig("kernel"))
	if log := h.Exec(id, "dmesg"); !strings.Contains(log, "gVisor") {
		t.Errorf("the kernel's log is not gVisor's:\n%s", log)
	}
	if name := h.Exec(id, "hostname"); name != "life" {
		t.Errorf("the host name is %q", name)
	}
	if hosts := h.Exec(id, "cat", "/etc/hosts"); !strings.Contains(hosts, pod.IP()) && !strings.Contains(hosts, "localhost") {
		t.Errorf("/etc/hosts is %q", hosts)
	}
	h.Exec(id, "sh", "-c", "echo shared > /dev/shm/file")
	if got := h.Exec(pod.Run(h.ContainerConfig("beside")), "cat", "/dev/shm/file"); got != "shared" {
		t.Errorf("/dev/shm of the other container has %q", got)
	}
}

// gvisorNetwork: the containers of a pod have its address and its loopback, and so have
// port-forwards.
func gvisorNetwork(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("network"))
	pod.Run(h.TesterConfig("server", "serve", ":8080"))
	echoing(h, pod, "local", "127.0.0.1:7001")
	h.Reachable(pod.IP() + ":8080").Close()
	client := pod.Run(h.ContainerConfig("client"))
	if got := h.Exec(client, "sh", "-c", "echo hello | nc 127.0.0.1 7001"); got != "hello" {
		t.Errorf("by the pod's loopback: %q", got)
	}
	address, _ := forwardPort(h, pod, 7001)
	if got, err := echoed(address, "hello"); got != "hello" {
		t.Errorf("by a port-forward: %q, %v", got, err)
	}
	other := h.RunPod(h.PodConfig("other"))
	if got := h.Exec(other.Run(h.TesterConfig("c", "term", "0")), "/tester", "get", "http://"+pod.IP()+":8080/"); got == "" {
		t.Error("another pod got nothing")
	}
}

func gvisorExec(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("exec")
	config.WorkingDir = "/tmp"
	config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("red")}}
	id := pod.Run(config)
	execOutput(t, h, id)
	execEndedBySignal(t, h, id)
	execProgramNotThere(t, h, id)
	execTimeout(h, id)
	execManyAtOnce(t, h, id)
	execOnATerminal(t, h, pod)
	created := pod.Create(h.ContainerConfig("created"))
	_, err := h.Runtime.ExecSync(h.Context(), &runtimeapi.ExecSyncRequest{ContainerId: created, Cmd: []string{"true"}})
	h.Refused(err, codes.FailedPrecondition, "started")
}

func gvisorStreams(h *Harness, pod *Pod) {
	config := h.ContainerConfig("streams", "sh", "-c", "while true; do sleep 100000; done")
	config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("red")}}
	id := pod.Run(config)
	execTerminal(h, "SPDY", id)
	streamsAndCode(h, "WebSocket", id)
	streamedInput(h, "WebSocket", id)
	execClientGoes(h, "SPDY", id)
}

func gvisorExitCodes(t *testing.T, h *Harness, pod *Pod) {
	for i, c := range []struct {
		script string
		code   int32
	}{{"exit 0", 0}, {"exit 42", 42}, {"exit 255", 255}, {"sh -c 'kill -9 $$'; exit $?", 137}} {
		got := h.WaitExit(pod.Run(h.ContainerConfig(fmt.Sprint("code-", i), "sh", "-c", c.script)))
		if got.ExitCode != c.code || got.FinishedAt < got.StartedAt {
			t.Errorf("%s: exit code %d, started %d, finished %d", c.script, got.ExitCode, got.StartedAt, got.FinishedAt)
		}
	}
	id, err := pod.TryCreate(h.ContainerConfig("absent", "/no/such/program"))
	if err == nil {
		_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
	}
	if err == nil {
		t.Error("a program that is not there was started")
	}
}

// gvisorSeccomp: the profile filters the calls that the container makes to gVisor.
func gvisorSeccomp(t *testing.T, h *Harness, pod *Pod) {
	file := filepath.Join(h.Share, "profile.json")
	h.write(file, withoutMkdir)
	config := h.ContainerConfig("filtered")
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: file}
	id := pod.Run(config)
	if answer := h.ExecSync(id, "mkdir", "/tmp/made"); answer.ExitCode == 0 {
		t.Error("mkdir works under a profile without it")
	}
	h.Exec(id, "touch", "/tmp/made")
}

func gvisorUpdate(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("update")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuPeriod: 100_000, CpuQuota: 25_000, MemoryLimitInBytes: 256 << 20}
	id := pod.Run(config)
	for _, memory := range []int64{192 << 20, 384 << 20} {
		change := &runtimeapi.LinuxContainerResources{CpuPeriod: 100_000, CpuQuota: 50_000, MemoryLimitInBytes: memory}
		if err := update(h.Client, id, change); err != nil {
			t.Fatal(err)
		}
		file := "memory.limit_in_bytes"
		if _, v2 := cgroupOf(t, h.ContainerPID(id), "memory"); v2 {
			file = "memory.max"
		}
		if got := arrived(t, h.ContainerPID(id), "memory", file); got != fmt.Sprint(memory) {
			t.Errorf("%s is %s, want %d", file, got, memory)
		}
	}
}

// gvisorDaemonKilled: containers go on without the daemon, and what ends meanwhile is known.
func gvisorDaemonKilled(t *testing.T, h *Harness) {
	pod := h.RunPod(h.PodConfig("killed"))
	running, ending := pod.Run(h.ContainerConfig("running")), h.TesterConfig("ending", "await", "/share/trigger", "73")
	ending.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/share"}}
	ended := pod.Run(ending)
	pid := h.ContainerPID(running)
	h.Daemon.Kill9()
	h.write(filepath.Join(h.Share, "trigger"), "")
	h.Daemon.Start()
	if code := h.WaitExit(ended).ExitCode; code != 73 {
		t.Errorf("exit code %d of a container that ended without a daemon, want 73", code)
	}
	if got := h.ContainerPID(running); got != pid {
		t.Errorf("the pid is %d, was %d", got, pid)
	}
	h.Exec(running, "true")
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := h.WaitExit(running); status.ExitCode != 137 || status.Reason != "Error" {
		t.Errorf("exit code %d, reason %q of a kernel that was killed; want 137, Error", status.ExitCode, status.Reason)
	}
}

// gvisorRefused: what kernels of containers do not share is refused.
func gvisorRefused(h *Harness) {
	for name, change := range map[string]func(*runtimeapi.PodSandboxConfig){
		"pid": func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
		},
		"ipc": func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
		},
		"userns": func(c *runtimeapi.PodSandboxConfig) {
			ids := []*runtimeapi.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
		},
		"sysctls": func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"}
		},
	} {
		config := h.PodConfig("refused")
		change(config)
		_, err := h.TryRunPod(config)
		h.Refused(err, codes.Unimplemented, name, "kernel of its own")
	}
	status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
	if err != nil || len(status.RuntimeHandlers) == 0 || status.RuntimeHandlers[0].Features.UserNamespaces {
		h.t.Errorf("the handlers are %v, %v", status.GetRuntimeHandlers(), err)
	}
	pod := h.RunPod(h.PodConfig("target"))
	config := h.ContainerConfig("debugger")
	config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{
		Pid: runtimeapi.NamespaceMode_TARGET, TargetId: pod.Run(h.ContainerConfig("target")),
	}
	_, err = pod.TryCreate(config)
	h.Refused(err, codes.Unimplemented, "namespace_options.pid", "kernel of its own")
}
