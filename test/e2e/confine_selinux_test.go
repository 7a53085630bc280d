package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestSELinux reads the labels of processes and files from the node. The policy need not enforce.
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
	pod, other := h.RunPod(h.PodConfig("labelled")), h.RunPod(h.PodConfig("other"))
	first, second := pod.Run(h.ContainerConfig("first")), pod.Run(h.ContainerConfig("second"))
	label := labelOf(h, first)
	if !strings.Contains(label, ":container_t:s0:c") {
		t.Errorf("the process has the label %q", label)
	}
	if got := labelOf(h, second); got != label {
		t.Errorf("containers of one pod have the labels %q and %q", label, got)
	}
	if got := labelOf(h, other.Run(h.ContainerConfig("c"))); level(got) == level(label) {
		t.Errorf("two pods have the level of %q", got)
	}
	for _, path := range []string{"bin", "etc/hostname", "etc/resolv.conf", "dev/shm"} {
		if got := fileLabelOf(h, first, path); !strings.Contains(got, ":container_file_t:") || level(got) != level(label) {
			t.Errorf("%s has the label %q", path, got)
		}
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := labelOf(h, pod.Run(h.ContainerConfig("after"))); got != label {
		t.Errorf("after a restart the pod's containers have the label %q", got)
	}
	t.Run("what the request says", func(t *testing.T) { labelsByRequest(t, h.In(t), pod) })
	privileged := h.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	config := h.ContainerConfig("privileged")
	config.Linux.SecurityContext.Privileged = true
	if got := labelOf(h, h.RunPod(privileged).Run(config)); strings.Contains(got, ":container_t:") {
		t.Errorf("a privileged container has the label %q", got)
	}
}

func labelsByRequest(t *testing.T, h *Harness, pod *Pod) {
	volume := filepath.Join(h.Share, "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	config := h.ContainerConfig("asked")
	config.Linux.SecurityContext.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0:c10,c20"}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: volume, SelinuxRelabel: true}}
	id := pod.Run(config)
	if got := level(labelOf(h, id)); got != "s0:c10,c20" {
		t.Errorf("the level is %q", got)
	}
	if got := fileLabelOf(h, id, "mnt"); !strings.HasSuffix(got, ":container_file_t:s0:c10,c20") {
		t.Errorf("the volume has the label %q", got)
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
