package e2e

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestArtifacts: an artifact is listed, found and removed like an image, by the id that its
// pull returned, and is a directory of files to a container.
func TestArtifacts(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.lab.test.thing")
	artifact, err := mutate.Append(artifact, mutate.Addendum{
		Layer:       static.NewLayer([]byte("heavy"), "text/plain"),
		Annotations: map[string]string{"org.opencontainers.image.title": "models/weights"},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := h.Registry.Push(t, "e2e/artifact:v1", artifact)
	id := h.Pull(name)

	status := func(ref string) *runtimeapi.Image {
		t.Helper()
		answer, err := h.Images.ImageStatus(h.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetImage()
	}
	found := status(name)
	if found.GetId() != id || found.GetSize() != 5 || len(found.GetRepoTags()) != 1 || len(found.GetRepoDigests()) != 1 || found.GetPinned() {
		t.Fatalf("artifact is %v, its pull said %s", found, id)
	}
	for _, ref := range []string{id, "sha256:" + id, id[:12], found.GetRepoDigests()[0]} {
		if got := status(ref).GetId(); got != id {
			t.Errorf("%s is %q", ref, got)
		}
	}
	for _, filter := range []*runtimeapi.ImageFilter{nil, {Image: &runtimeapi.ImageSpec{Image: name}}} {
		all, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{Filter: filter})
		listed := 0
		for _, i := range all.GetImages() {
			if i.GetId() == id {
				listed++
			}
		}
		if err != nil || listed != 1 {
			t.Errorf("with the filter %v it is listed %d times, %v", filter, listed, err)
		}
	}

	pod := h.RunPod(h.PodConfig("artifact"))
	config := h.ContainerConfig("c")
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/whole", Image: &runtimeapi.ImageSpec{Image: id}, Readonly: true}}
	c := pod.Run(config)
	if got := h.Exec(c, "cat", "/whole/models/weights"); got != "heavy" {
		t.Errorf("the file has %q", got)
	}
	_, err = h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: id}})
	h.Refused(err, codes.FailedPrecondition, "in use")
	h.Daemon.Kill9()
	h.Daemon.Start()
	if got := status(name).GetId(); got != id {
		t.Errorf("after a restart it is %q", got)
	}
	pod.Remove()
	if _, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: id}}); err != nil {
		t.Error(err)
	}
	if left := status(name); left != nil {
		t.Errorf("%v is left", left)
	}
	h.Audit()
}
