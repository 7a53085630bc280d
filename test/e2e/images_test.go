package e2e

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

func TestImages(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	image := images.Busybox(t, v1.Config{Cmd: []string{"sh", "-c", "echo $WORD from $PWD"}, Env: []string{"PATH=/bin", "WORD=hello"}, WorkingDir: "/var/tmp", User: "app"})
	tag := h.Registry.Push(t, "e2e/own:v1", image)
	h.Registry.Push(t, "e2e/own:v2", image)
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	repository, _, _ := strings.Cut(tag, ":v1")
	digest := repository + "@" + hash.String()

	if found := h.ImageStatus(tag); found != nil {
		t.Errorf("an image is there before it was pulled: %v", found)
	}
	id := h.Pull(tag)
	found := h.ImageStatus(tag)
	if found == nil {
		t.Fatal("the image is not there after it was pulled")
	}
	if found.Id != id || !slices.Contains(found.RepoTags, tag) || !slices.Contains(found.RepoDigests, digest) || found.Size == 0 {
		t.Errorf("status of %s: %v", tag, found)
	}
	if found.Username != "app" || found.Uid != nil {
		t.Errorf("the image's user is %q, %v; want app", found.Username, found.Uid)
	}
	for _, ref := range []string{id, digest} {
		if same := h.ImageStatus(ref); same == nil || same.Id != id {
			t.Errorf("status of %s: %v", ref, same)
		}
	}
	// By another tag and by its digest it is the same image.
	for _, ref := range []string{repository + ":v2", digest} {
		if again := h.Pull(ref); again != id {
			t.Errorf("pulling %s gave %s, want %s", ref, again, id)
		}
	}
	if found := h.ImageStatus(id); len(found.RepoTags) != 2 {
		t.Errorf("tags %v, want two", found.RepoTags)
	}

	imageIsListed(t, h, id, tag)
	pod := imageRuns(t, h, id, tag)
	imagesTakeRoom(t, h)

	// Removing a name leaves the image with the other; removing the id takes it.
	h.RemoveImage(repository + ":v2")
	if found := h.ImageStatus(id); found == nil || !slices.Equal(found.RepoTags, []string{tag}) {
		t.Errorf("after one of its tags was removed: %v", found)
	}
	pod.Remove()
	h.RemoveImage(id)
	if found := h.ImageStatus(tag); found != nil {
		t.Errorf("after it was removed: %v", found)
	}
	h.RemoveImage(id)
	h.RemoveImage(repository + ":v9")
}

func imageIsListed(t *testing.T, h *Harness, id, tag string) {
	all, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.Images) != 3 {
		t.Errorf("%d images, %v; want own, busybox and tester", len(all.GetImages()), err)
	}
	one, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: tag}}})
	if err != nil || len(one.Images) != 1 || one.Images[0].Id != id {
		t.Errorf("the filter gave %v, %v", one, err)
	}
	none, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: tag + "9"}}})
	if err != nil || len(none.Images) != 0 {
		t.Errorf("the filter gave %v, %v; want nothing", none, err)
	}
}

// imageRuns: what the image says counts where the container says nothing.
func imageRuns(t *testing.T, h *Harness, id, tag string) *Pod {
	pod := h.RunPod(h.PodConfig("image"))
	config := h.ContainerConfig("own")
	config.Image.Image, config.Command = id, nil
	config.Image.UserSpecifiedImage = tag
	h.WaitExit(pod.Run(config))
	if log := pod.Log(config); len(log) != 1 || log[0].Text != "hello from /var/tmp" {
		t.Errorf("the image's own command said %v", log)
	}
	return pod
}

func imagesTakeRoom(t *testing.T, h *Harness) {
	info, err := h.Images.ImageFsInfo(h.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil || len(info.ImageFilesystems) != 1 {
		t.Fatalf("ImageFsInfo: %v, %v", info, err)
	}
	if fs := info.ImageFilesystems[0]; fs.UsedBytes.GetValue() < 1<<20 || fs.InodesUsed.GetValue() == 0 || !strings.HasPrefix(fs.FsId.GetMountpoint(), h.Root) || fs.Timestamp == 0 {
		t.Errorf("ImageFsInfo: %v", fs)
	}
}

func TestRemoveImageInUse(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("user"))
	id := pod.Run(h.ContainerConfig("c"))
	image := h.ContainerStatus(id).ImageRef
	// Refused or done, the container must not notice.
	_, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		h.Refused(err, codes.FailedPrecondition)
	}
	h.Exec(id, "ls", "/bin/busybox")
	pod.Remove()
	if _, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}}); err != nil {
		t.Errorf("remove an image that nobody uses: %v", err)
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	for name, c := range map[string]struct {
		image string
		code  codes.Code
	}{
		"no such tag":        {h.Registry.Host + "/e2e/busybox:absent", codes.NotFound},
		"no such repository": {h.Registry.Host + "/e2e/absent:latest", codes.NotFound},
		"no name":            {"", codes.InvalidArgument},
		"not a name":         {"UPPER CASE!", codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: c.image}})
			h.Refused(err, c.code)
		})
	}
	h.Audit()
}
