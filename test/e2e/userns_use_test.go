package e2e

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestUseOfUserNamespaces uses pods with users of their own as other tests use others.
func TestUseOfUserNamespaces(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "watch", &plugin{})
	pod := h.RunPod(usersPod(h, "use", 200000))
	t.Run("attach", func(t *testing.T) {
		attachMany(h.In(t), pod, "SPDY")
		attachTerminal(h.In(t), pod, "SPDY")
		attachOnce(h.In(t), pod, "SPDY")
	})
	t.Run("exec", func(t *testing.T) {
		h := h.In(t)
		config := h.ContainerConfig("exec")
		config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("red")}}
		id := pod.Run(config)
		streamsAndCode(h, "SPDY", id)
		execTerminal(h, "SPDY", id)
		// As a user, too, the streams can be opened again.
		other := h.ContainerConfig("exec-as-user")
		other.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		if got := h.Exec(pod.Run(other), "sh", "-c", "echo one > /dev/stdout; echo two > /proc/self/fd/1"); got != "one\ntwo" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("port-forward", func(t *testing.T) {
		echoing(h.In(t), pod, "echo", "127.0.0.1:7001")
		forwardMany(h.In(t), pod, 7001)
	})
	t.Run("host port", func(t *testing.T) {
		h := h.In(t)
		config := usersPod(h, "host-port", 210000)
		port := onPort(h, config, "")
		served := h.RunPod(config)
		served.Run(h.TesterConfig("web", "serve", ":8080"))
		h.Reachable(served.IP() + ":8080").Close()
		wantHost(h, "127.0.0.1", port, "host-port")
	})
	t.Run("devices", func(t *testing.T) { usersDevices(t, h.In(t), pod) })
	t.Run("privileged", func(t *testing.T) { usersPrivileged(t, h.In(t)) })
	t.Run("volumes of images", func(t *testing.T) { usersVolumes(t, h.In(t), pod) })
	t.Run("file system without mapping", func(t *testing.T) {
		h := h.In(t)
		config := h.ContainerConfig("kernels")
		users := pod.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
		config.Mounts = []*runtimeapi.Mount{
			{HostPath: h.Share, ContainerPath: "/fine", UidMappings: users.Uids, GidMappings: users.Gids},
			{HostPath: "/sys/kernel", ContainerPath: "/x", UidMappings: users.Uids, GidMappings: users.Gids},
		}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.Unimplemented, "mounts[1].host_path", "/sys/kernel", "id-mapped")
	})
	t.Run("limits", func(t *testing.T) { usersLimits(t, h.In(t), pod) })
	t.Run("NRI", func(t *testing.T) {
		namespaces := p.LastPod("RunPodSandbox").GetLinux().GetNamespaces()
		if !slices.ContainsFunc(namespaces, func(n *api.LinuxNamespace) bool {
			return n.GetType() == "user" && strings.HasPrefix(n.GetPath(), h.State)
		}) {
			t.Errorf("of the pod's namespaces a plug-in is told %v", namespaces)
		}
	})
}

// usersDevices: a device of the node is bind mounted, and is usable, but not the pod's.
func usersDevices(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("devices")
	config.Devices = []*runtimeapi.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/extra", Permissions: "r"}}
	id := pod.Run(config)
	if got := h.Exec(id, "sh", "-c", "head -c 3 /dev/extra | wc -c; echo x > /dev/null; head -c 2 /dev/urandom | wc -c; stat -c %F /dev/extra"); strings.Join(strings.Fields(got), " ") != "3 2 character special file" {
		t.Errorf("got %q", got)
	}
	if got := h.ExecSync(id, "mknod", "/dev/made", "c", "1", "5"); got.ExitCode == 0 {
		t.Error("a device was made in a user namespace")
	}
}

// usersPrivileged: such a container may do all that its root may in its own namespaces, and
// nothing to the node.
func usersPrivileged(t *testing.T, h *Harness) {
	config := usersPod(h, "privileged", 220000)
	config.Linux.SecurityContext.Privileged = true
	pod := h.RunPod(config)
	asked := h.ContainerConfig("c")
	asked.Linux.SecurityContext.Privileged = true
	id := pod.Run(asked)
	if got := mapped(h, id); got != "0 220000 65536 0 220000 65536" {
		t.Errorf("mappings %q", got)
	}
	h.Exec(id, "hostname", "renamed")
	h.Exec(id, "sh", "-c", "mkdir /m && mount -t tmpfs none /m && echo 1 > /proc/sys/net/ipv4/ip_forward")
	for _, command := range []string{"echo 1 > /proc/sys/kernel/panic", "echo x > /proc/sysrq-trigger", "cat /proc/1/root/etc/shadow > /dev/null && cat /dev/mem"} {
		if got := h.ExecSync(id, "sh", "-c", command); got.ExitCode == 0 {
			t.Errorf("%s works: %s", command, got.Stdout)
		}
	}
}

// usersVolumes: what an image has at its VOLUMEs is copied with its owners, what it lacks is the
// container's user's, and an artifact is root's.
func usersVolumes(t *testing.T, h *Harness, pod *Pod) {
	ref := h.Registry.Push(t, "users/volumes:v1", images.Build(t, images.Spec{
		Config: v1.Config{Volumes: map[string]struct{}{"/data": {}, "/made": {}}, Cmd: []string{"/bin/sleep", "3600"}},
		Layers: [][]images.File{images.BusyboxFiles(t), {
			{Path: "data", Mode: fs.ModeDir | 0o755, UID: 1000, GID: 1000},
			{Path: "data/of-user", Mode: 0o600, UID: 1000, GID: 1000, Content: []byte("kept")},
			{Path: "data/of-root", Mode: 0o644},
		}},
	}))
	h.Pull(ref)
	artifact := h.Registry.Push(t, "users/artifact:v1", anArtifact(t))
	h.Pull(artifact)
	config := h.ContainerConfig("volumes")
	config.Image.Image = ref
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
	config.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1000}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/artifact", Readonly: true, Image: &runtimeapi.ImageSpec{Image: artifact}}}
	id := pod.Run(config)
	got := h.Exec(id, "sh", "-c", "cat /data/of-user; touch /data/new /made/new; stat -c %u:%g /data /data/of-user /data/of-root /data/new /made /made/new /artifact/weights")
	if want := "kept1000:1000\n1000:1000\n0:0\n1000:1000\n1000:1000\n1000:1000\n0:0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.StopContainer(id, 0)
	h.RemoveContainer(id)
	if _, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: artifact}}); err != nil {
		t.Error(err)
	}
}

// anArtifact has one file, weights.
func anArtifact(t *testing.T) v1.Image {
	t.Helper()
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.lab.test.thing")
	artifact, err := mutate.Append(artifact, mutate.Addendum{
		Layer:       static.NewLayer([]byte("heavy"), "text/plain"),
		Annotations: map[string]string{"org.opencontainers.image.title": "weights"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return artifact
}

func usersLimits(t *testing.T, h *Harness, pod *Pod) {
	config := h.ContainerConfig("limits")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512}
	id := pod.Run(config)
	if _, err := h.Runtime.UpdateContainerResources(h.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 48 << 20},
	}); err != nil {
		t.Fatal(err)
	}
	stats, err := h.Runtime.ContainerStats(h.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil || stats.GetStats().GetMemory().GetUsageBytes().GetValue() == 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}
}

// TestUsersWithoutIDMaps: where nothing can be mapped, the kubelet is told so, and a container is
// refused in words. Nothing is copied.
func TestUsersWithoutIDMaps(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "\n[storage]\nstorage_driver = \"vfs\"\n"})
	status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, handler := range status.RuntimeHandlers {
		if handler.GetFeatures().GetUserNamespaces() {
			t.Errorf("the handler %q offers user namespaces", handler.Name)
		}
	}
	pod := h.RunPod(usersPod(h, "users", 200000))
	_, err = pod.TryCreate(h.ContainerConfig("c"))
	h.Refused(err, codes.Unimplemented, "userns_options", "overlay", "5.19")
}

// TestUsersInterrupted kills the daemon at moments of a pod's and a container's making. What was
// asked for again is whole, and what is removed leaves nothing.
func TestUsersInterrupted(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	for round := range 12 {
		config := usersPod(h, "interrupted", uint32(200000+round*65536))
		asked := h.ContainerConfig("c")
		made := make(chan struct{})
		go func() {
			defer close(made)
			id, err := h.TryRunPod(config)
			if err == nil {
				_, _ = (&Pod{ID: id, Config: config, h: h}).TryCreate(asked)
			}
		}()
		time.Sleep(time.Duration(round*6) * time.Millisecond)
		h.Daemon.Kill9()
		<-made
		h.Daemon.Start()
		pod := h.RunPod(config)
		id := pod.Create(asked)
		h.StartContainer(id)
		if got := h.Exec(id, "stat", "-c", "%u", "/bin/sh"); got != "0" {
			t.Errorf("round %d: a file of the image belongs to %q", round, got)
		}
		pod.Remove()
	}
}
