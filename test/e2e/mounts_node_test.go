package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestDefaultMountsFile gives all containers copies of the node's files, and only where it is
// configured.
func TestDefaultMountsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secrets, elsewhere, list := filepath.Join(dir, "secrets"), filepath.Join(dir, "elsewhere"), filepath.Join(dir, "mounts.conf")
	for _, err := range []error{
		os.Mkdir(secrets, 0o755), os.Mkdir(elsewhere, 0o755), os.WriteFile(filepath.Join(secrets, "key"), []byte("of the node"), 0o644),
		os.WriteFile(filepath.Join(elsewhere, "cert"), []byte("linked"), 0o644), os.Symlink(elsewhere, filepath.Join(secrets, "certs")),
		os.WriteFile(list, []byte("# gifts\n"+secrets+":/run/secrets\n"+filepath.Join(secrets, "key")+":/opt/key\n"+dir+"/none:/none\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("\n[runtime]\ndefault_mounts_file = %q\n", list)})
	pod := h.RunPod(h.PodConfig("gifts"))
	config := h.ContainerConfig("c")
	// The kubelet's mount is below: it must find its place.
	config.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/run/secrets/kubernetes.io/serviceaccount", Readonly: true}}
	id := pod.Run(config)
	if got := h.Exec(id, "sh", "-c", "cat /run/secrets/key /run/secrets/certs/cert /opt/key; test -e /none || echo none; ls /run/secrets"); got != "of the nodelinkedof the nodenone\ncerts\nkey\nkubernetes.io" {
		t.Errorf("the container sees %q", got)
	}
	h.Exec(id, "sh", "-c", "echo changed > /run/secrets/key; rm /run/secrets/certs/cert")
	for path, want := range map[string]string{filepath.Join(secrets, "key"): "of the node", filepath.Join(elsewhere, "cert"): "linked"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s on the node has %q, %v", path, got, err)
		}
	}
	// Each container has its own copy, of what the node has then. The daemon's end changes nothing.
	if err := os.WriteFile(filepath.Join(secrets, "key"), []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := h.Exec(pod.Run(h.ContainerConfig("later")), "cat", "/run/secrets/key"); got != "newer" {
		t.Errorf("a later container sees %q", got)
	}
	// What the pod mounts is left alone.
	mine := filepath.Join(h.Share, "mine")
	if err := os.Mkdir(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	own := h.ContainerConfig("own")
	own.Mounts = []*runtimeapi.Mount{{HostPath: mine, ContainerPath: "/run"}}
	h.Exec(pod.Run(own), "test", "!", "-e", "/run/secrets")
	if left, err := os.ReadDir(mine); err != nil || len(left) > 0 {
		t.Errorf("in the pod's volume there are %v, %v", left, err)
	}
	// Without an end: refused, and nothing is left.
	if err := os.Symlink(".", filepath.Join(secrets, "circle")); err != nil {
		t.Fatal(err)
	}
	_, err := pod.TryCreate(h.ContainerConfig("circle"))
	h.Refused(err, codes.FailedPrecondition, "default_mounts_file", secrets, "directories deep")
	pod.Remove()
	h.Audit()

	plain := New(t, programs, Options{})
	if got := plain.ExecSync(plain.RunPod(plain.PodConfig("plain")).Run(plain.ContainerConfig("c")), "test", "-e", "/run/secrets"); got.ExitCode == 0 {
		t.Error("without a configuration there are secrets")
	}
}

// TestFilesOfTheRuntime sees /run/.containerenv and /etc/mtab.
func TestFilesOfTheRuntime(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("files"))
	id := pod.Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "sh", "-c", "stat -c '%F %s' /run/.containerenv; readlink /etc/mtab; grep -c ' /proc ' /etc/mtab"); got != "regular empty file 0\n/proc/mounts\n1" {
		t.Errorf("got %q", got)
	}
	t.Run("CVE-2024-5154: /etc and /run of the image lead out", func(t *testing.T) {
		h := h.In(t)
		outside := t.TempDir()
		image := images.Build(t, images.Spec{Layers: [][]images.File{
			images.BusyboxFiles(t),
			{{Path: "etc", Mode: fs.ModeSymlink, Target: outside}, {Path: "run", Mode: fs.ModeSymlink, Target: "../../../../../../.." + outside}},
		}})
		config := h.ContainerConfig("hostile")
		config.Image.Image = h.Registry.Push(t, "e2e/hostile:etc", image)
		h.Pull(config.Image.Image)
		id, err := pod.TryCreate(config)
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("on the node there are %v (%s, %v)", left, id, err)
		}
	})
	t.Run("the pod's own /run", func(t *testing.T) {
		h := h.In(t)
		run := filepath.Join(h.Share, "run")
		config := h.ContainerConfig("run")
		config.Mounts = []*runtimeapi.Mount{{HostPath: run, ContainerPath: "/run"}}
		pod.Run(config)
		if left, err := os.ReadDir(run); err != nil || len(left) > 0 {
			t.Errorf("in the pod's volume there are %v, %v", left, err)
		}
	})
}

// TestMountSources mounts what paths of the node can be.
func TestMountSources(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("sources"))
	at := func(name string) string { return filepath.Join(h.Share, "sources", name) }
	for _, err := range []error{
		os.MkdirAll(at("dir/sub"), 0o755), os.WriteFile(at("dir/file"), []byte("content"), 0o644), os.MkdirAll(at("over"), 0o755),
		os.WriteFile(at("over/what"), []byte("over"), 0o644),
		os.Symlink("dir", at("link")), os.Symlink(at("dir/file"), at("filelink")), os.Symlink("nowhere", at("dangling")), os.Symlink("loop", at("loop")),
		unix.Mkfifo(at("fifo"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{
		// Those below come first: the order of the request is not that of the mounts.
		{HostPath: at("dir/file"), ContainerPath: "/a/sub/below/file"},
		{HostPath: at("over"), ContainerPath: "/a/sub/below"},
		{HostPath: at("dir"), ContainerPath: "/a"},
		{HostPath: at("link"), ContainerPath: "/link"},
		{HostPath: at("filelink"), ContainerPath: "/filelink", Readonly: true},
		{HostPath: at("made/deep"), ContainerPath: "/made"},
		{HostPath: at("fifo"), ContainerPath: "/fifo"},
	}
	id := pod.Run(config)
	if got := h.Exec(id, "sh", "-c", "cat /a/file /a/sub/below/what /a/sub/below/file /link/file /filelink; stat -c %F /made /fifo"); got != "contentovercontentcontentcontentdirectory\nfifo" {
		t.Errorf("the container sees %q", got)
	}
	if info, err := os.Stat(at("made/deep")); err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
		t.Errorf("the missing source: %v, %v", info, err)
	}
	for source, word := range map[string]string{
		at("dangling"): "a link that leads to nothing", at("dangling/x"): "a link that leads to nothing", at("loop"): "can't be resolved", at("dir/file/x"): "can't be resolved",
	} {
		config := h.ContainerConfig("bad")
		config.Mounts = []*runtimeapi.Mount{{HostPath: at("not/made"), ContainerPath: "/other"}, {HostPath: source, ContainerPath: "/x"}}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "mounts[1].host_path", source, word)
		if _, err := os.Lstat(at("not/made")); !os.IsNotExist(err) {
			t.Errorf("%s: half of it was done: %v", source, err)
		}
	}
}

// TestMountPropagation mounts on either side, and looks from the other.
func TestMountPropagation(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	shared, private := filepath.Join(h.Share, "shared"), filepath.Join(h.Share, "private")
	for dir, how := range map[string]uintptr{shared: unix.MS_SHARED, private: unix.MS_PRIVATE} {
		for _, err := range []error{os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"), unix.Mount("", dir, "", how, "")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			for _, mount := range []string{filepath.Join(dir, "of-the-node"), filepath.Join(dir, "of-the-container"), dir} {
				_ = unix.Unmount(mount, unix.MNT_DETACH) // not all of them are there
			}
		})
	}
	podConfig := h.PodConfig("propagation")
	podConfig.Linux.SecurityContext.Privileged = true
	pod := h.RunPod(podConfig)
	config := h.ContainerConfig("c")
	config.Linux.SecurityContext.Privileged = true
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: shared, ContainerPath: "/both", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		{HostPath: shared, ContainerPath: "/in", Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		{HostPath: shared, ContainerPath: "/none"},
	}
	id := pod.Run(config)
	mark := filepath.Join(shared, "of-the-node")
	for _, err := range []error{os.Mkdir(mark, 0o755), unix.Mount("tmpfs", mark, "tmpfs", 0, "size=1m"), os.WriteFile(filepath.Join(mark, "file"), nil, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Exec(id, "sh", "-c", "for d in both in none; do test -e /$d/of-the-node/file && echo $d; done; true"); got != "both\nin" {
		t.Errorf("the node's mount is seen in %q", got)
	}
	h.Exec(id, "sh", "-c", "mkdir /both/of-the-container && mount -t tmpfs -o size=1m tmpfs /both/of-the-container && touch /both/of-the-container/file")
	if _, err := os.Stat(filepath.Join(shared, "of-the-container/file")); err != nil {
		t.Errorf("the container's mount is not seen: %v", err)
	}
	for mode, word := range map[runtimeapi.MountPropagation]string{
		runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL: "not shared", runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: "receives no mounts",
	} {
		config := h.ContainerConfig("bad")
		config.Linux.SecurityContext.Privileged = true
		config.Mounts = []*runtimeapi.Mount{{HostPath: private, ContainerPath: "/x", Propagation: mode}}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "mounts[0].propagation", private, word)
	}
}

// TestBindMountPrefix has the node's root directory elsewhere.
func TestBindMountPrefix(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "srv/data"), 0o755), os.WriteFile(filepath.Join(root, "srv/data/file"), []byte("below"), 0o644),
		os.Symlink("/srv/data", filepath.Join(root, "link")), os.Symlink("../../../../../../../../etc", filepath.Join(root, "up")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("\n[runtime]\nbind_mount_prefix = %q\nabsent_mount_sources_to_reject = [%q]\n", root, root+"/srv/absent")})
	pod := h.RunPod(h.PodConfig("prefix"))
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: "/srv/data", ContainerPath: "/plain"}, {HostPath: "/link", ContainerPath: "/link"},
		{HostPath: "/made", ContainerPath: "/made"}, {HostPath: "/up", ContainerPath: "/up"},
	}
	id := pod.Run(config)
	if got := h.Exec(id, "sh", "-c", "cat /plain/file /link/file; ls /up | wc -l"); got != "belowbelow0" {
		t.Errorf("the container sees %q", got)
	}
	for _, dir := range []string{"made", "etc"} {
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
			t.Errorf("%s was not made below the prefix: %v", dir, err)
		}
	}
	if _, err := os.Stat("/made"); !os.IsNotExist(err) {
		t.Errorf("/made on the node: %v", err)
	}
	if got := h.ContainerStatus(id).Mounts[0].HostPath; got != "/srv/data" {
		t.Errorf("the status has the host path %s", got)
	}
	absent := h.ContainerConfig("absent")
	absent.Mounts = []*runtimeapi.Mount{{HostPath: "/srv/absent", ContainerPath: "/x"}}
	_, err := pod.TryCreate(absent)
	h.Refused(err, codes.InvalidArgument, "mounts[0].host_path", "/srv/absent", "must not be made")
}

// TestDevicesOfPrivileged keeps the node's devices from a privileged container.
func TestDevicesOfPrivileged(t *testing.T) {
	t.Parallel()
	device := filepath.Join(t.TempDir(), "given")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))); err != nil {
		t.Fatal(err)
	}
	const handlers = `
[runtime.handlers.runc]
path = "runc"
[runtime.handlers.without]
path = "runc"
privileged_without_host_devices = true
[runtime.handlers.allowed]
path = "runc"
privileged_without_host_devices = true
privileged_without_host_devices_all_devices_allowed = true
`
	h := New(t, programs, Options{Config: handlers, Handlers: map[string]string{"without": programs.Runc, "allowed": programs.Runc}})
	for handler, want := range map[string]string{"runc": "sees makes", "without": "", "allowed": "makes"} {
		t.Run(handler, func(t *testing.T) {
			h := h.In(t)
			pod := runPrivileged(h, handler)
			config := h.ContainerConfig("c")
			config.Linux.SecurityContext.Privileged = true
			id := pod.Run(config)
			// The kernel's messages: every node has them, and no runtime gives them by itself.
			got := h.Exec(id, "sh", "-c", `test -c /dev/kmsg && echo sees; mknod /tmp/kmsg c 1 11 && dd if=/tmp/kmsg of=/dev/null bs=8192 count=1 2>/dev/null && echo makes; true`)
			if strings.Join(strings.Fields(got), " ") != want {
				t.Errorf("a privileged container %q, want %q", got, want)
			}
			named := h.ContainerConfig("named")
			named.Linux.SecurityContext.Privileged = true
			named.Devices = []*runtimeapi.Device{{HostPath: device, ContainerPath: "/dev/given", Permissions: "r"}}
			if got := h.Exec(pod.Run(named), "sh", "-c", "dd if=/dev/given of=/dev/null bs=8192 count=1 2>/dev/null && echo reads"); got != "reads" {
				t.Errorf("of a device that is named it %q", got)
			}
		})
	}
}

func runPrivileged(h *Harness, handler string) *Pod {
	h.t.Helper()
	config := h.PodConfig("privileged-" + handler)
	config.Linux.SecurityContext.Privileged = true
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		h.t.Fatal(err)
	}
	answer, err := h.Runtime.RunPodSandbox(h.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.removePod(answer.PodSandboxId) })
	return &Pod{h: h, ID: answer.PodSandboxId, Config: config}
}
