package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// vendorSpec is a specification of the Container Device Interface with one device.
const vendorSpec = `{
  "cdiVersion": "0.6.0", "kind": "vendor.example/engine",
  "devices": [{"name": %q, "containerEdits": {
    "deviceNodes": [{"path": "/dev/engine", "hostPath": %q, "permissions": "rw"}],
    "env": ["ENGINE=%s"],
    "mounts": [{"hostPath": %q, "containerPath": "/usr/lib/engine", "options": ["ro", "nosuid", "nodev", "bind"]}],
    "hooks": [{"hookName": "createRuntime", "path": "/bin/touch", "args": ["touch", %q]}]
  }}]
}`

// TestCDI gives containers devices that a vendor describes.
func TestCDI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	specs, lib, called := filepath.Join(dir, "cdi"), filepath.Join(dir, "lib"), filepath.Join(dir, "called")
	for _, made := range []string{specs, lib} {
		if err := os.Mkdir(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	device := filepath.Join(dir, "device")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))); err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		t.Helper()
		content := fmt.Sprintf(vendorSpec, name, device, name, lib, called)
		if err := os.WriteFile(filepath.Join(specs, name+".json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("\n[runtime]\ncdi_spec_dirs = [%q, %q]\n", specs, filepath.Join(dir, "absent"))})
	pod := h.RunPod(h.PodConfig("cdi"))
	write("first")
	seen := func(config *runtimeapi.ContainerConfig, want string) {
		t.Helper()
		id := pod.Run(config)
		if got := h.Exec(id, "sh", "-c", "stat -c %t:%T /dev/engine; echo $ENGINE; test -d /usr/lib/engine && echo lib; echo x > /dev/engine || true"); got != "1:7\n"+want+"\nlib" {
			t.Errorf("%s: %q", config.Metadata.Name, got)
		}
	}
	field := h.ContainerConfig("field")
	field.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.example/engine=first"}}
	seen(field, "first")
	if _, err := os.Stat(called); err != nil {
		t.Errorf("the device's hook was not called: %v", err)
	}
	// A device that appeared while the daemon runs, by an annotation, and by both once.
	write("second")
	annotated := h.ContainerConfig("annotation")
	annotated.Annotations["cdi.k8s.io/plugin_x"] = "vendor.example/engine=second"
	annotated.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.example/engine=second"}}
	seen(annotated, "second")

	// Only the container's own request counts: a pod's annotation reaches nothing (of the kind of
	// CVE-2026-53489).
	other := h.PodConfig("other")
	other.Annotations["cdi.k8s.io/plugin_x"] = "vendor.example/engine=second"
	if got := h.ExecSync(h.RunPod(other).Run(h.ContainerConfig("c")), "test", "-e", "/dev/engine"); got.ExitCode == 0 {
		t.Error("a pod's annotation gave its containers a device")
	}

	t.Run("bad requests", func(t *testing.T) { cdiRefused(t, h.In(t), pod, specs) })
}

func cdiRefused(t *testing.T, h *Harness, pod *Pod, specs string) {
	for name, c := range map[string]struct {
		device string
		code   codes.Code
		words  []string
	}{
		"unknown":        {"vendor.example/engine=third", codes.FailedPrecondition, []string{"CDI_devices[0].name", "vendor.example/engine=third", specs}},
		"no name":        {"", codes.InvalidArgument, []string{"CDI_devices[0].name"}},
		"no class":       {"engine=first", codes.InvalidArgument, []string{"CDI_devices[0].name", "engine=first"}},
		"path":           {"vendor.example/engine=../../first", codes.InvalidArgument, []string{"CDI_devices[0].name"}},
		"control":        {"vendor.example/engine=fi\nrst", codes.InvalidArgument, []string{"CDI_devices[0].name"}},
		"several in one": {"vendor.example/engine=first,vendor.example/engine=second", codes.InvalidArgument, []string{"CDI_devices[0].name"}},
	} {
		config := h.ContainerConfig("bad")
		config.CDIDevices = []*runtimeapi.CDIDevice{{Name: c.device}}
		_, err := pod.TryCreate(config)
		if err == nil {
			t.Errorf("%s: it was created", name)
		}
		h.Refused(err, c.code, c.words...)
	}
	config := h.ContainerConfig("bad")
	config.Annotations["cdi.k8s.io/plugin"] = "nonsense"
	_, err := pod.TryCreate(config)
	h.Refused(err, codes.InvalidArgument, "annotations[cdi.k8s.io/plugin]", "nonsense")

	// A broken specification is named when a device is not found, and harms no other.
	if err := os.WriteFile(filepath.Join(specs, "broken.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	config = h.ContainerConfig("after")
	config.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.example/engine=third"}}
	_, err = pod.TryCreate(config)
	h.Refused(err, codes.FailedPrecondition, "broken.json")
	config.CDIDevices[0].Name = "vendor.example/engine=first"
	if id := pod.Run(config); !strings.Contains(h.Exec(id, "env"), "ENGINE=first") {
		t.Error("the other specification does not work any more")
	}
}
