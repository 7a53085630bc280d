package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestSteleImage goes through `stele image`, from an archive to a container.
func TestSteleImage(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	image := images.Busybox(t, v1.Config{Cmd: []string{"sleep", "3600"}, Env: []string{"PATH=/bin"}})
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "loaded:v1"})); err != nil {
		t.Fatal(err)
	}
	loaded := h.Stele("image", "load", "oci:"+dir, "--name", "localhost/loaded:v1")
	if !strings.HasPrefix(loaded, "localhost/loaded:v1 ") {
		t.Fatalf("load says %q", loaded)
	}
	if list := h.Stele("image", "ls"); !strings.Contains(list, "localhost/loaded:v1") || !strings.Contains(list, h.Tester) {
		t.Errorf("ls says %q", list)
	}
	if events := h.Stele("events", "-o", "wide"); !strings.Contains(events, "LoadRequested") || !strings.Contains(events, "ImagesLoaded") || !strings.Contains(events, "LayerFetched") {
		t.Errorf("the log doesn't show the load or of the pulls:\n%s", events)
	}

	tag := h.Registry.Push(t, "e2e/elsewhere:v1", image)
	var remote struct {
		Digest string
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(h.Stele("image", "inspect", "docker://"+tag)), &remote); err != nil {
		t.Fatal(err)
	}
	if want, err := image.Digest(); err != nil || remote.Digest != want.String() || len(remote.Layers) == 0 {
		t.Errorf("inspect of the registry says %+v, want the digest %s, %v", remote, want, err)
	}
	if list := h.Stele("image", "ls"); strings.Contains(list, "elsewhere") {
		t.Errorf("inspecting has pulled: %q", list)
	}
	if found := h.Stele("inspect", "image", "localhost/loaded:v1"); !strings.Contains(found, "sleep") {
		t.Errorf("inspect of the store says %q", found)
	}

	pod := h.RunPod(h.PodConfig("loaded"))
	config := h.ContainerConfig("c")
	config.Image.Image = "localhost/loaded:v1"
	id := pod.Run(config)
	if out, err := h.stele("image", "rm", "localhost/loaded:v1"); err == nil {
		t.Errorf("an image was removed on which a container stands: %s", out)
	}
	h.StopContainer(id, 0)
	h.RemoveContainer(id)
	pod.Remove()
	h.Stele("image", "rm", "localhost/loaded:v1")
	if list := h.Stele("image", "ls"); strings.Contains(list, "loaded") {
		t.Errorf("ls after rm says %q", list)
	}
}

// TestInspectAfterRemoval: a pod's history outlives the pod.
func TestInspectAfterRemoval(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("gone"))
	container := pod.Run(h.ContainerConfig("c", "sh", "-c", "exit 4"))
	h.WaitExit(container)
	pod.Remove()
	for _, name := range []string{pod.ID[:12], pod.Config.Metadata.Name, pod.Config.Metadata.Namespace + "/" + pod.Config.Metadata.Name} {
		out := h.Stele("inspect", name)
		for _, want := range []string{"sandbox/" + pod.ID, "container/" + container, "pod removed", "container removed", "exited by itself with code 4"} {
			if !strings.Contains(out, want) {
				t.Errorf("inspect %s says nothing of %s:\n%s", name, want, out)
			}
		}
	}
}

// TestTerminal: a container with a terminal has one, and its output is logged.
func TestTerminal(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("terminal"))
	config := h.ContainerConfig("c", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo on a terminal; echo error >&2; exit 6")
	config.Tty, config.Stdin = true, true
	id := pod.Run(config)
	if ended := h.WaitExit(id); ended.ExitCode != 6 {
		t.Errorf("the exit code is %d", ended.ExitCode)
	}
	var lines []string
	for _, line := range pod.Log(config) {
		lines = append(lines, line.Stream+" "+strings.TrimSuffix(line.Text, "\r"))
	}
	if !slices.Equal(lines, []string{"stdout on a terminal", "stdout error"}) {
		t.Errorf("the log is %q", lines)
	}
	pod.Remove()
	h.Audit()
}

// TestImageVolume mounts an image, and a directory of one, into a container.
func TestImageVolume(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	data := images.Build(t, images.Spec{Layers: [][]images.File{{
		{Path: "models/small/weights", Mode: 0o644, Content: []byte("heavy")},
		{Path: "models/small/run", Mode: 0o755, Content: []byte("#!/bin/sh\necho ran\n")}, {Path: "models/outside", Mode: fs.ModeSymlink, Target: "/etc"},
	}}})
	volume := h.Pull(h.Registry.Push(t, "e2e/volume:v1", data))
	pod := h.RunPod(h.PodConfig("volume"))
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{
		{ContainerPath: "/whole", Image: &runtimeapi.ImageSpec{Image: volume}, Readonly: true},
		{ContainerPath: "/part", Image: &runtimeapi.ImageSpec{Image: volume}, ImageSubPath: "models/small", Readonly: true},
	}
	id := pod.Run(config)
	for _, path := range []string{"/whole/models/small/weights", "/part/weights"} {
		if got := h.Exec(id, "cat", path); got != "heavy" {
			t.Errorf("%s has %q", path, got)
		}
	}
	if got := h.Exec(id, "/part/run"); got != "ran" {
		t.Errorf("a program in the volume says %q", got)
	}
	if answer := h.ExecSync(id, "sh", "-c", "echo x > /part/weights || echo x > /whole/new"); answer.ExitCode == 0 {
		t.Error("the volume can be written")
	}
	_, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: volume}})
	h.Refused(err, codes.FailedPrecondition, "in use")

	for path, code := range map[string]codes.Code{"models/large": codes.InvalidArgument, "../etc": codes.InvalidArgument, "models/outside": codes.InvalidArgument} {
		bad := h.ContainerConfig("bad" + strconv.Itoa(len(path)))
		bad.Mounts = []*runtimeapi.Mount{{ContainerPath: "/part", Image: &runtimeapi.ImageSpec{Image: volume}, ImageSubPath: path, Readonly: true}}
		_, err := pod.TryCreate(bad)
		h.Refused(err, code, "mounts[0].image")
	}
	writable := h.ContainerConfig("writable")
	writable.Mounts = []*runtimeapi.Mount{{ContainerPath: "/part", Image: &runtimeapi.ImageSpec{Image: volume}}}
	_, err = pod.TryCreate(writable)
	h.Refused(err, codes.InvalidArgument, "mounts[0].readonly")
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := h.Exec(id, "cat", "/part/weights"); got != "heavy" {
		t.Errorf("after a restart the volume has %q", got)
	}
	pod.Remove()
	h.Audit()
}

// TestLogDiskFull: a container whose log has no room is not held up, and the loss is
// reported.
func TestLogDiskFull(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("full"))
	if err := os.MkdirAll(pod.Config.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", pod.Config.LogDirectory, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(pod.Config.LogDirectory, unix.MNT_DETACH) })
	config := h.TesterConfig("c", "flood", "2000000")
	id := pod.Run(config)
	if ended := h.WaitExit(id); ended.ExitCode != 0 {
		t.Errorf("the exit code is %d", ended.ExitCode)
	}
	h.Eventually("the loss is logged", func() bool {
		return strings.Contains(h.Stele("events", "-o", "wide", id[:12]), "OutputLost")
	})
	h.RemoveContainer(id)
	pod.Remove()
}

// TestMonitorUpgrade replaces the monitor's program under a running container.
func TestMonitorUpgrade(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("upgrade"))
	config := h.TesterConfig("c", "numbers", "2000", "9")
	before := h.MonitorPIDs()
	id := pod.Run(config)
	for range 3 {
		h.Stele("monitor", "upgrade")
	}
	if after := h.MonitorPIDs(); !slices.Equal(before, after) {
		t.Errorf("the monitor was %v and is %v", before, after)
	}
	if ended := h.WaitExit(id); ended.ExitCode != 9 {
		t.Errorf("the exit code is %d", ended.ExitCode)
	}
	next, whole := 0, ""
	for _, line := range pod.Log(config) {
		whole += line.Text
		if line.Tag != "F" {
			continue
		}
		if number, _, _ := strings.Cut(whole, " "); number != strconv.Itoa(next) {
			t.Fatalf("the log has %.40q where %d was expected", whole, next)
		}
		next, whole = next+1, ""
	}
	if next != 2000 {
		t.Errorf("the log ends with %d", next-1)
	}
	pod.Remove()
	h.Audit()
}
