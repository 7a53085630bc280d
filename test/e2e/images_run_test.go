package e2e

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// missingUsers: an image with an unknown user is pulled, but only run with a user in the
// container's configuration.
func missingUsers(t *testing.T, h *Harness, pod *Pod, b *builder) {
	for i, user := range []string{"no-such-user", "app:no-such-group"} {
		image := b.build(images.Spec{Config: v1.Config{User: user}})
		ref := h.Registry.Push(t, fmt.Sprintf("users/missing:v%d", i), image)
		id := h.Pull(ref)
		if found := h.ImageStatus(ref); found.GetUsername() == "" {
			t.Errorf("the status says nothing of the user %s: %v", user, found)
		}
		config := h.ContainerConfig(fmt.Sprintf("missing-%d", i), "id", "-u")
		config.Image.Image = id
		_, err := pod.TryCreate(config)
		_, missing, _ := strings.Cut(":"+user, ":no-such")
		h.Refused(err, codes.InvalidArgument, "no-such"+missing)
		config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		config.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1000}
		container := pod.Run(config)
		h.WaitExit(container)
		if got := pod.said(config); !slices.Equal(got, []string{"1000"}) {
			t.Errorf("with a user of its own the container said %q", got)
		}
		h.RemoveContainer(container)
		h.RemoveImage(id)
	}
}

// imageStopSignal: StopContainer sends the image's signal.
func imageStopSignal(t *testing.T, h *Harness, pod *Pod, b *builder) {
	image := b.build(images.Spec{Config: v1.Config{
		StopSignal: "SIGUSR1", Cmd: []string{"sh", "-c", "trap 'echo stopped; exit 7' USR1; echo ready; while :; do sleep 0.1; done"},
	}})
	id := h.Pull(h.Registry.Push(t, "configurations/stop-signal:v1", image))
	config := h.ContainerConfig("stop-signal")
	config.Image.Image, config.Command = id, nil
	container := pod.Run(config)
	h.Eventually("the container is ready", func() bool { return len(pod.said(config)) > 0 })
	h.StopContainer(container, 60)
	if ended := h.WaitExit(container); ended.ExitCode != 7 {
		t.Errorf("the exit code is %d, want 7", ended.ExitCode)
	}
	h.RemoveContainer(container)
	h.RemoveImage(id)
}

// volumesOfImages: a volume has the image's files with their owners; what one container
// writes, the next doesn't see.
func volumesOfImages(t *testing.T, h *Harness, pod *Pod, b *builder) {
	image := b.build(images.Spec{
		Config: v1.Config{Volumes: map[string]struct{}{"/data": {}, "/scratch": {}, "/owned": {}, "C:/weird": {}, "/:colon": {}}},
		Layers: [][]images.File{{
			directory("data"), directory("data/keep"), {Path: "data/keep/file", Mode: 0o644, Content: []byte("from-image\n")},
			{Path: "owned", Mode: fs.ModeDir | 0o750, UID: 65534, GID: 65534},
			directory("C:"), directory("C:/weird"), {Path: "C:/weird/file", Mode: 0o644, Content: []byte("weird\n")},
			directory(":colon"), {Path: ":colon/file", Mode: 0o644, Content: []byte("colon\n")},
		}},
	})
	id := h.Pull(h.Registry.Push(t, "configurations/volumes:v1", image))
	for i := range 2 {
		config := h.ContainerConfig(fmt.Sprintf("volumes-%d", i), "sh", "-c", `
			cat /data/keep/file C:/weird/file /:colon/file; stat -c "%a %u:%g" /owned; ls /scratch | wc -l
			for d in /data /scratch /owned; do touch $d/new && echo $d; done`)
		config.Image.Image = id
		container := pod.Run(config)
		h.WaitExit(container)
		want := []string{"from-image", "weird", "colon", "750 65534:65534", "0", "/data", "/scratch", "/owned"}
		if got := pod.said(config); !slices.Equal(got, want) {
			t.Errorf("container %d said %q, want %q", i, got, want)
		}
		h.RemoveContainer(container)
	}
	h.RemoveImage(id)
}
