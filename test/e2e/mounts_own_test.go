package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestMountsOfOtherPods: a container that sees the daemon's directories does not keep the namespaces
// of a pod that is gone, although its mounts are private. The kernel detaches a mount whose
// mountpoint is removed, so that CRI-O's other propagation for such volumes is not needed.
func TestMountsOfOtherPods(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	first, watcher := h.RunPod(h.PodConfig("first")), h.RunPod(h.PodConfig("watcher"))
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{{HostPath: h.State, ContainerPath: "/state", Readonly: true}}
	id := watcher.Run(config)
	seen := func() bool { return strings.Contains(h.Exec(id, "cat", "/proc/self/mountinfo"), first.ID) }
	if !seen() {
		t.Fatal("the container does not see the other pod's mounts")
	}
	first.Remove()
	if seen() {
		t.Error("the container keeps mounts of a pod that is gone")
	}
	watcher.Remove()
}

// TestTmpfses sees what the image has in a tmpfs, and what an init system gets.
func TestTmpfses(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: "\n[runtime]\nread_only = true\n"})
	image := images.Build(t, images.Spec{Layers: [][]images.File{append(images.BusyboxFiles(t),
		images.File{Path: "run/of-the-image", Mode: 0o644, Content: []byte("copied")},
		images.File{Path: "sbin/init", Mode: 0o755, Content: []byte("#!/bin/sh\nwhile :; do sleep 1; done\n")},
	)}})
	ref := h.Registry.Push(t, "e2e/tmpfses:v1", image)
	h.Pull(ref)
	pod := h.RunPod(h.PodConfig("tmpfses"))
	copied := ""
	if features, err := exec.CommandContext(t.Context(), programs.Runc, "features").Output(); err == nil && strings.Contains(string(features), "tmpcopyup") {
		copied = "copied" // older cruns do not say what they can
	}
	const look = `cat /run/of-the-image; echo; stat -c %a /run /tmp; cat /proc/1/mountinfo | grep -c ' /run/lock '; tr '\0' '\n' </proc/1/environ | grep -c ^container=`
	for name, c := range map[string]struct {
		command []string
		want    string
	}{
		"ordinary": {[]string{"sleep", "3600"}, copied + "\n755\n1777\n0\n0"},
		"init":     {[]string{"/sbin/init"}, copied + "\n755\n1777\n1\n1"},
	} {
		config := h.ContainerConfig(name, c.command...)
		config.Image.Image = ref
		id := pod.Run(config)
		if got := h.Exec(id, "sh", "-c", look+"; true"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		// On v2 an init system divides its own cgroup, but does not lift its limits; nobody else does either.
		if _, v2 := cgroupOf(t, h.ContainerPID(id), "memory"); v2 {
			made := h.ExecSync(id, "mkdir", "/sys/fs/cgroup/of-its-own")
			lifted := h.ExecSync(id, "sh", "-c", "echo max > /sys/fs/cgroup/memory.max")
			if (made.ExitCode == 0) != (name == "init") || lifted.ExitCode == 0 {
				t.Errorf("%s: a cgroup of its own: %v; its limit: %v", name, made, lifted)
			}
		}
	}
}

// TestGiftsWithUsers gives the node's files to containers whose root is nobody on the node.
func TestGiftsWithUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "mounts.conf")
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "secrets"), 0o700), os.WriteFile(filepath.Join(dir, "secrets/key"), []byte("secret"), 0o600),
		os.WriteFile(list, []byte(filepath.Join(dir, "secrets")+":/run/secrets\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("\n[runtime]\ndefault_mounts_file = %q\ntimezone = \"Etc/GMT+5\"\n", list)})
	image := images.Build(t, images.Spec{Layers: [][]images.File{append(images.BusyboxFiles(t),
		images.File{Path: "usr/share/zoneinfo/Other", Mode: 0o644, Content: []byte("other")},
		images.File{Path: "etc/localtime", Mode: fs.ModeSymlink, Target: "/usr/share/zoneinfo/Other"},
	)}})
	ref := h.Registry.Push(t, "e2e/gifts:v1", image)
	h.Pull(ref)
	pod := h.RunPod(usersPod(h, "gifts", 300000))
	config := h.ContainerConfig("c")
	config.Image.Image = ref
	id := pod.Run(config)
	const look = `cat /run/secrets/key; echo; stat -c '%u:%g %a' /run/secrets /run/secrets/key; stat -c %u:%g /etc/localtime /etc/mtab; date +%z; readlink /etc/mtab; cat /usr/share/zoneinfo/Other; test -f /run/.containerenv && echo env; rm /run/secrets/key /etc/localtime`
	want := "secret\n0:0 700\n0:0 600\n0:0\n0:0\n-0500\n/proc/mounts\notherenv"
	if got := h.Exec(id, "sh", "-c", look); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCDIWithUsers gives a container whose root is nobody on the node a device on another path.
func TestCDIWithUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	specs, device := filepath.Join(dir, "cdi"), filepath.Join(dir, "device")
	text := fmt.Sprintf(`{"cdiVersion": "0.6.0", "kind": "v/c", "devices": [{"name": "d", "containerEdits": {"deviceNodes": [
		{"path": "/dev/moved/here", "hostPath": %q, "permissions": "rw"}, {"path": "/dev/full"}]}}]}`, device)
	for _, err := range []error{
		unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 8))), os.Chmod(device, 0o666),
		os.Mkdir(specs, 0o755), os.WriteFile(filepath.Join(specs, "v.json"), []byte(text), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("\n[runtime]\ncdi_spec_dirs = [%q]\n", specs)})
	config := h.ContainerConfig("c")
	config.CDIDevices = []*runtimeapi.CDIDevice{{Name: "v/c=d"}}
	id := h.RunPod(usersPod(h, "cdi", 500000)).Run(config)
	if got := h.Exec(id, "sh", "-c", "stat -c %t:%T /dev/moved/here /dev/full; head -c 4 /dev/moved/here | wc -c"); got != "1:8\n1:7\n4" {
		t.Errorf("got %q", got)
	}
}

// TestPermissionsOfDevices opens a block and a character device in ways that the request does not give.
func TestPermissionsOfDevices(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	dir := t.TempDir()
	block, char := filepath.Join(dir, "block"), filepath.Join(dir, "char")
	for _, err := range []error{
		// A number that no driver has: whoever may open it hears that nothing is there.
		unix.Mknod(block, unix.S_IFBLK|0o666, int(unix.Mkdev(240, 5))), unix.Mknod(char, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	pod := h.RunPod(h.PodConfig("devices"))
	config := h.ContainerConfig("c")
	config.Devices = []*runtimeapi.Device{
		{HostPath: block, ContainerPath: "/dev/block", Permissions: "r"}, {HostPath: char, ContainerPath: "/dev/char", Permissions: "w"},
	}
	id := pod.Run(config)
	if got := h.Exec(id, "stat", "-c", "%F %t:%T", "/dev/block", "/dev/char"); got != "block special file f0:5\ncharacter special file 1:b" {
		t.Errorf("got %q", got)
	}
	for command, word := range map[string]string{
		"true < /dev/block": "No such", "true 1<> /dev/block": "Operation not permitted",
		"true > /dev/char": "", "true < /dev/char": "Operation not permitted",
	} {
		got := h.ExecSync(id, "sh", "-c", command)
		if (got.ExitCode == 0) != (word == "") || !strings.Contains(string(got.Stderr), word) {
			t.Errorf("%s: %v", command, got)
		}
	}
}
