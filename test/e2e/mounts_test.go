package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// mountOptions is a configuration of what containers find mounted.
const mountOptions = `
[runtime]
shm_size = "10m"
image_volumes = "mkdir"
timezone = "Local"
absent_mount_sources_to_reject = ["/var/tmp/stele-e2e-absent"]
[runtime.handlers.runc]
path = "runc"
allowed_annotations = ["io.kubernetes.cri-o.ShmSize", "io.github.stele-runtime.ulimits"]
`

// TestMountConfiguration sees from inside what the configuration says of mounts, and what pods
// may ask for by annotation.
func TestMountConfiguration(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: mountOptions})
	pod := h.RunPod(h.PodConfig("mounts"))
	t.Run("shared memory", func(t *testing.T) { mountsShm(t, h.In(t), pod) })
	t.Run("ulimits by annotation", func(t *testing.T) { mountsUlimits(t, h.In(t)) })
	t.Run("volumes of the image are directories", func(t *testing.T) {
		h := h.In(t)
		if got := h.Exec(pod.Run(withVolume(t, h, "dirs")), "sh", "-c", "grep -c /data /proc/mounts; stat -c %F /data; cat /data/file"); got != "0\ndirectory\nof the image" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a volume that the image lacks is the user's, and nothing else", func(t *testing.T) {
		h := h.In(t)
		image := images.Build(t, images.Spec{
			Config: v1.Config{Volumes: map[string]struct{}{"/var/lib/db": {}}, User: "999:998"},
			Layers: [][]images.File{images.BusyboxFiles(t)},
		})
		config := h.ContainerConfig("mine")
		config.Image.Image = h.Registry.Push(t, "e2e/volume:mine", image)
		h.Pull(config.Image.Image)
		if got := h.Exec(pod.Run(config), "sh", "-c", "stat -c %u:%g /var /var/lib/db; touch /var/lib/db/file"); got != "0:0\n999:998" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("time zone of the image stays what it is", func(t *testing.T) {
		h := h.In(t)
		image := images.Build(t, images.Spec{Layers: [][]images.File{append(images.BusyboxFiles(t),
			images.File{Path: "usr/share/zoneinfo/Other", Mode: 0o644, Content: []byte("other")},
			images.File{Path: "etc/localtime", Mode: fs.ModeSymlink, Target: "/usr/share/zoneinfo/Other"},
		)}})
		config := h.ContainerConfig("zones")
		config.Image.Image = h.Registry.Push(t, "e2e/zones:v1", image)
		h.Pull(config.Image.Image)
		id := pod.Run(config)
		if got := h.Exec(id, "cat", "/usr/share/zoneinfo/Other"); got != "other" {
			t.Errorf("another zone of the image has %q", got)
		}
		if got := h.Exec(id, "cat", "/etc/localtime"); got == "other" {
			t.Error("/etc/localtime is the image's")
		}
	})
	t.Run("time zone", func(t *testing.T) {
		h := h.In(t)
		want, err := os.ReadFile("/etc/localtime")
		if err != nil {
			t.Skip("this node has no /etc/localtime")
		}
		if got := h.ExecSync(pod.Run(h.ContainerConfig("zone")), "cat", "/etc/localtime"); string(got.Stdout) != string(want) {
			t.Errorf("/etc/localtime has %d bytes, the node's %d", len(got.Stdout), len(want))
		}
	})
	t.Run("sources that must not be made", func(t *testing.T) {
		h := h.In(t)
		config := h.ContainerConfig("absent")
		config.Mounts = []*runtimeapi.Mount{{HostPath: "/var/tmp/../tmp/stele-e2e-absent", ContainerPath: "/x"}}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "mounts[0].host_path", "stele-e2e-absent", "must not be made")
		if _, err := os.Lstat("/var/tmp/stele-e2e-absent"); !os.IsNotExist(err) {
			t.Errorf("it was made: %v", err)
		}
	})
}

// withVolume is a container of an image that declares the volume /data.
func withVolume(t *testing.T, h *Harness, name string) *runtimeapi.ContainerConfig {
	image := images.Build(t, images.Spec{
		Config: v1.Config{Volumes: map[string]struct{}{"/data": {}}},
		Layers: [][]images.File{append(images.BusyboxFiles(t), images.File{Path: "data/file", Mode: 0o644, Content: []byte("of the image")})},
	})
	config := h.ContainerConfig(name)
	config.Image.Image = h.Registry.Push(t, "e2e/volume:"+name, image)
	h.Pull(config.Image.Image)
	return config
}

func mountsShm(t *testing.T, h *Harness, pod *Pod) {
	size := func(pod *Pod) string {
		return h.Exec(pod.Run(h.ContainerConfig("shm")), "sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'")
	}
	if got := size(pod); got != "10240" {
		t.Errorf("/dev/shm has %s KiB", got)
	}
	config := h.PodConfig("asks")
	config.Annotations["io.kubernetes.cri-o.ShmSize"] = "20m"
	if got := size(h.RunPod(config)); got != "20480" {
		t.Errorf("/dev/shm has %s KiB for a pod that asks for more", got)
	}
	for _, bad := range []string{"-1", "0", "lots", "1m,uid=0", "9999999999999999999999"} {
		config := h.PodConfig("bad")
		config.Annotations["io.kubernetes.cri-o.ShmSize"] = bad
		id, err := h.TryRunPod(config)
		if err == nil {
			h.removePod(id)
		}
		h.Refused(err, codes.InvalidArgument, "annotations[io.kubernetes.cri-o.ShmSize]", bad)
	}
}

func mountsUlimits(t *testing.T, h *Harness) {
	config := h.PodConfig("ulimits")
	config.Annotations["io.github.stele-runtime.ulimits"] = "nofile=100:200,core=0"
	pod := h.RunPod(config)
	if got := h.Exec(pod.Run(h.ContainerConfig("c")), "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"); got != "100\n200\n0" {
		t.Errorf("limits %q", got)
	}
	for _, bad := range []string{"nofile", "flying=1", "nofile=2:1", "nofile=1,", "nofile=x"} {
		config := h.PodConfig("bad")
		config.Annotations["io.github.stele-runtime.ulimits"] = bad
		_, err := h.RunPod(config).TryCreate(h.ContainerConfig("c"))
		h.Refused(err, codes.InvalidArgument, "annotations[io.github.stele-runtime.ulimits]")
	}
}

// TestReadOnlyNode has all root file systems read-only, and volumes of images ignored.
func TestReadOnlyNode(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "\n[runtime]\nread_only = true\nimage_volumes = \"ignore\"\n"})
	pod := h.RunPod(h.PodConfig("read-only"))
	id := pod.Run(withVolume(t, h, "ignored"))
	for _, dir := range []string{"/run", "/tmp", "/var/tmp", "/dev/shm"} {
		h.Exec(id, "touch", filepath.Join(dir, "file"))
	}
	for _, dir := range []string{"/", "/etc", "/data"} {
		if got := h.ExecSync(id, "touch", filepath.Join(dir, "new")); got.ExitCode == 0 || !strings.Contains(string(got.Stderr), "Read-only") {
			t.Errorf("writing in %s: %v", dir, got)
		}
	}
}
