package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestSELinux reads the labels of processes and files from the node, and sees the policy at work
// where it is enforced.
func TestSELinux(t *testing.T) {
	t.Parallel()
	if !selinux.GetEnabled() {
		t.Skip("the kernel has no SELinux here, or it is off")
	}
	process, _ := selinux.ContainerLabels() //nolint:staticcheck // There is nothing else that reads them.
	if selinux.SecurityCheckContext(process) != nil {
		h := New(t, programs, Options{})
		h.Exec(h.RunPod(h.PodConfig("unlabelled")).Run(h.ContainerConfig("c")), "true")
		t.Skip("containers run, without labels: the policy has none for them")
	}
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("labelled"))
	t.Run("a pod's own level", func(t *testing.T) { labelsOfAPod(t, h.In(t), pod) })
	t.Run("files", func(t *testing.T) { labelsOfFiles(t, h.In(t), pod) })
	t.Run("volumes", func(t *testing.T) { labelsOfVolumes(t, h.In(t), pod) })
	t.Run("what the request says", func(t *testing.T) { labelsByRequest(t, h.In(t), pod) })
	t.Run("an init system", func(t *testing.T) { labelOfInit(t, h.In(t), pod) })
	t.Run("a user namespace", func(t *testing.T) { labelsOfUsers(t, h.In(t)) })
	t.Run("none", func(t *testing.T) { withoutLabels(t, h.In(t)) })
}

// ownLabel is what a container's first process has where nothing else is asked for.
var ownLabel = regexp.MustCompile(`^system_u:system_r:container_t:(s0:c\d+,c\d+)$`)

// labelsOfAPod: all containers of a pod have one level, each pod has its own, and a daemon that
// was killed knows it.
func labelsOfAPod(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("first", "sh", "-c", "echo logged; exec sleep 3600")
	first := pod.Run(config)
	label := labelOf(h, first)
	if !ownLabel.MatchString(label) {
		t.Errorf("the process has the label %q", label)
	}
	if got := strings.Trim(h.Exec(first, "cat", "/proc/self/attr/current"), "\x00\n"); got != label {
		t.Errorf("a command has the label %q, the container %q", got, label)
	}
	h.Eventually("a pipe of the node's takes what the container writes", func() bool {
		return len(pod.Log(config)) == 1
	})
	tester := pod.Run(h.TesterConfig("keys", "serve", ":80"))
	if got := strings.TrimSpace(h.Exec(tester, "/tester", "keyring")); got != label {
		t.Errorf("the keyring has the label %q, the container %q", got, label)
	}
	if got := labelOf(h, h.RunPod(h.PodConfig("other")).Run(h.ContainerConfig("c"))); !ownLabel.MatchString(got) || level(got) == level(label) {
		t.Errorf("another pod has the label %q, this one %q", got, label)
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := labelOf(h, pod.Run(h.ContainerConfig("after"))); got != label {
		t.Errorf("after a restart the pod's containers have the label %q, before %q", got, label)
	}
	h.Exec(first, "true")
}

// labelsOfFiles looks at all that is in a container: its root, what is mounted there, and what it
// makes itself.
func labelsOfFiles(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("files")
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/image", Readonly: true, Image: &runtimeapi.ImageSpec{Image: h.Tester}}}
	id := pod.Run(config)
	h.Exec(id, "touch", "/made", "/dev/shm/made")
	want := "system_u:object_r:container_file_t:" + level(labelOf(h, id))
	for _, path := range []string{
		"", "bin/busybox", "made", "etc/passwd", "etc/hostname", "etc/hosts", "etc/resolv.conf",
		"dev", "dev/null", "dev/mqueue", "dev/shm", "dev/shm/made", "image", "image/tester",
	} {
		if got := fileLabelOf(h, id, path); got != want {
			t.Errorf("/%s has the label %q, want %q", path, got, want)
		}
	}
	again := pod.Run(h.ContainerConfig("shares"))
	h.Exec(again, "rm", "/dev/shm/made")
}

// labelsOfVolumes: a volume is relabelled where that is asked for, and if the policy is enforced
// no other pod gets at it, nor this one at what is the node's.
func labelsOfVolumes(t *testing.T, h *Harness, pod *Pod) {
	own, nodes := volume(h, "own"), volume(h, "nodes")
	config := h.ContainerConfig("volumes")
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/own", HostPath: own, SelinuxRelabel: true}, {ContainerPath: "/nodes", HostPath: nodes}}
	id := pod.Run(config)
	for _, path := range []string{"own", "own/file"} {
		if got, want := fileLabelOf(h, id, path), "system_u:object_r:container_file_t:"+level(labelOf(h, id)); got != want {
			t.Errorf("/%s has the label %q, want %q", path, got, want)
		}
	}
	if got := fileLabelOf(h, id, "nodes/file"); strings.Contains(got, ":container_") {
		t.Errorf("nobody asked, and yet /nodes/file has the label %q", got)
	}
	h.Exec(id, "sh", "-c", "cat /own/file; echo more >> /own/file")
	stranger := h.ContainerConfig("stranger")
	stranger.Mounts = []*runtimeapi.Mount{{ContainerPath: "/own", HostPath: own}}
	other := h.RunPod(h.PodConfig("stranger")).Run(stranger)
	if selinux.EnforceMode() != selinux.Enforcing {
		return
	}
	for container, path := range map[string]string{id: "/nodes/file", other: "/own/file"} {
		if got := h.ExecSync(container, "cat", path); got.ExitCode == 0 || !strings.Contains(string(got.Stderr), "Permission denied") {
			t.Errorf("cat %s: %v", path, got)
		}
	}
}

// volume is a directory of the node's with a file.
func volume(h *Harness, name string) string {
	h.t.Helper()
	dir := filepath.Join(h.Share, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.write(filepath.Join(dir, "file"), "content")
	return dir
}

func labelsByRequest(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("asked")
	config.Linux.SecurityContext.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0:c10,c20"}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: volume(h, "asked"), SelinuxRelabel: true}}
	id := pod.Run(config)
	if got := labelOf(h, id); got != "system_u:system_r:container_t:s0:c10,c20" {
		t.Errorf("the process has the label %q", got)
	}
	if got := fileLabelOf(h, id, "mnt/file"); got != "system_u:object_r:container_file_t:s0:c10,c20" {
		t.Errorf("the volume has the label %q", got)
	}
	config = h.ContainerConfig("spc")
	config.Linux.SecurityContext.SelinuxOptions = &runtimeapi.SELinuxOption{Type: "spc_t"}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: volume(h, "spc"), SelinuxRelabel: true}}
	id = pod.Run(config)
	if got := labelOf(h, id); !strings.Contains(got, ":spc_t:") {
		t.Errorf("the process has the label %q", got)
	}
	if got := fileLabelOf(h, id, "mnt/file"); strings.Contains(got, ":container_file_t:") {
		t.Errorf("the volume of a container that is not confined has the label %q", got)
	}
	h.Exec(id, "cat", "/mnt/file")
	for _, wrong := range []*runtimeapi.SELinuxOption{{Type: "stele_e2e_t"}, {Level: "s9:c1"}, {User: "nobody_u"}} {
		value := wrong.Type + wrong.Level + wrong.User
		config := h.ContainerConfig("refused")
		config.Linux.SecurityContext.SelinuxOptions = wrong
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "selinux_options", value)
		if wrong.Type != "" {
			continue // of processes, and a pod has none
		}
		refused := h.PodConfig("refused")
		refused.Linux.SecurityContext.SelinuxOptions = wrong
		_, err = h.TryRunPod(refused)
		h.Refused(err, codes.InvalidArgument, "selinux_options", value)
	}
}

// labelOfInit: what is called like an init system has a type of its own.
func labelOfInit(t *testing.T, h *Harness, pod *Pod) {
	program, err := os.ReadFile(h.Programs.Tester)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.Share, "init")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	config := h.ContainerConfig("init", "/sbin/init", "serve", ":81")
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/sbin/init", HostPath: path, SelinuxRelabel: true}}
	if got := labelOf(h, pod.Run(config)); !strings.HasPrefix(got, "system_u:system_r:container_init_t:s0:c") {
		t.Errorf("the process has the label %q", got)
	}
}

// labelsOfUsers: mapped files have their label, too.
func labelsOfUsers(t *testing.T, h *Harness) {
	id := h.RunPod(usersPod(h, "users", 200000)).Run(h.ContainerConfig("c"))
	if got := labelOf(h, id); !ownLabel.MatchString(got) {
		t.Errorf("the process has the label %q", got)
	}
	if got, want := fileLabelOf(h, id, "bin/busybox"), "system_u:object_r:container_file_t:"+level(labelOf(h, id)); got != want {
		t.Errorf("/bin/busybox has the label %q, want %q", got, want)
	}
	if got := h.Exec(id, "sh", "-c", "touch /dev/shm/made /made; stat -c %u /made /bin/busybox /dev/mqueue"); got != "0\n0\n0" {
		t.Errorf("files belong to %q", got)
	}
}

// withoutLabels: what shares the node's namespaces, or is privileged, runs as the runtime does.
func withoutLabels(t *testing.T, h *Harness) {
	daemon, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", h.Daemon.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(pod *runtimeapi.LinuxSandboxSecurityContext, container *runtimeapi.LinuxContainerSecurityContext)
		files  string
	}{
		"privileged": {func(pod *runtimeapi.LinuxSandboxSecurityContext, container *runtimeapi.LinuxContainerSecurityContext) {
			pod.Privileged, container.Privileged = true, true
		}, ":container_file_t:s0:c"},
		"host-network": {func(pod *runtimeapi.LinuxSandboxSecurityContext, _ *runtimeapi.LinuxContainerSecurityContext) {
			pod.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		}, ":container_file_t:s0:c"},
		"host-pids": {func(pod *runtimeapi.LinuxSandboxSecurityContext, _ *runtimeapi.LinuxContainerSecurityContext) {
			pod.NamespaceOptions.Pid = runtimeapi.NamespaceMode_NODE
			// The image store's own label for files that no container may use.
		}, ":container_file_t:s0:c1022,c1023"},
	} {
		pod, container := h.PodConfig(name), h.ContainerConfig(name)
		c.change(pod.Linux.SecurityContext, container.Linux.SecurityContext)
		id := h.RunPod(pod).Run(container)
		if got, want := labelOf(h, id), strings.Trim(string(daemon), "\x00\n"); got != want {
			t.Errorf("%s: the process has the label %q, the daemon %q", name, got, want)
		}
		if got := fileLabelOf(h, id, "bin/busybox"); !strings.Contains(got, c.files) {
			t.Errorf("%s: /bin/busybox has the label %q", name, got)
		}
		h.Exec(id, "true")
	}
}

// labelOf is that of a container's first process.
func labelOf(h *Harness, id string) string {
	h.t.Helper()
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", h.ContainerPID(id)))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Trim(string(got), "\x00\n")
}

// fileLabelOf is that of a file as a container sees it.
func fileLabelOf(h *Harness, id, path string) string {
	h.t.Helper()
	got, err := selinux.LfileLabel(fmt.Sprintf("/proc/%d/root/%s", h.ContainerPID(id), path))
	if err != nil {
		h.t.Error(err)
	}
	return got
}

func level(label string) string {
	parts := strings.SplitN(label, ":", 4)
	return parts[len(parts)-1]
}
