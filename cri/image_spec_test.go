package cri

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
)

// imageCalls are all calls with an ImageSpec, by its field.
func imageCalls(d *desk) map[string]func(context.Context, *runtimeapi.ImageSpec) error {
	create := func(ctx context.Context, change func(*runtimeapi.ContainerConfig)) error {
		_, err := d.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: containerConfig(change)})
		return err
	}
	return map[string]func(context.Context, *runtimeapi.ImageSpec) error{
		"image (pull)": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			_, err := d.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec})
			return err
		},
		"image (remove)": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			_, err := d.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec})
			return err
		},
		"image (status)": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			_, err := d.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
			return err
		},
		"filter.image": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			_, err := d.ListImages(ctx, &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: spec}})
			return err
		},
		"config.image": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			return create(ctx, func(c *runtimeapi.ContainerConfig) { c.Image = spec })
		},
		"config.mounts[1].image": func(ctx context.Context, spec *runtimeapi.ImageSpec) error {
			return create(ctx, func(c *runtimeapi.ContainerConfig) {
				c.Mounts = []*runtimeapi.Mount{{HostPath: "/data"}, {ContainerPath: "/image", Image: spec}}
			})
		},
	}
}

func TestImageSpec(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	for at, call := range imageCalls(d) {
		field, _, _ := strings.Cut(at, " ")
		for name, test := range map[string]struct {
			spec  *runtimeapi.ImageSpec
			words []string
		}{
			"runtime_handler": {&runtimeapi.ImageSpec{RuntimeHandler: "kata"}, []string{`"kata"`, "not configured"}},
			"user_specified_image, with a password": {
				&runtimeapi.ImageSpec{UserSpecifiedImage: "https://me:s3cr3t@lab.test/web"}, []string{"has a user"},
			},
			"user_specified_image, of two lines": {&runtimeapi.ImageSpec{UserSpecifiedImage: "web\nmore"}, []string{`"web\nmore"`}},
			"user_specified_image, endless":      {&runtimeapi.ImageSpec{UserSpecifiedImage: strings.Repeat("x", maxWrittenName+1)}, []string{"1025 bytes"}},
		} {
			spec := proto.CloneOf(test.spec)
			spec.Image = "plain:1"
			err := call(t.Context(), spec)
			part, _, _ := strings.Cut(name, ",")
			refused(t, err, fault.Invalid, field+"."+part)
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("%s: %s: the error is %v", at, name, err)
				}
			}
			if d.actors.last() != nil {
				t.Fatalf("%s: %s: something was asked: %+v", at, name, d.actors.last())
			}
		}
	}
	for at, call := range imageCalls(d) {
		spec := &runtimeapi.ImageSpec{Image: "plain:1", UserSpecifiedImage: "plain", RuntimeHandler: "other", ImageRef: "sha256:0", Annotations: map[string]string{"a": "b"}}
		if at == "filter.image" {
			spec.Annotations = nil
		}
		if err := call(t.Context(), spec); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestImageFilter(t *testing.T) {
	d := newDesk(t, nil)
	list := imageCalls(d)["filter.image"]
	refused(t, list(t.Context(), &runtimeapi.ImageSpec{Annotations: map[string]string{"team": "a"}}), fault.Unsupported, "filter.image.annotations")
	refused(t, list(t.Context(), &runtimeapi.ImageSpec{UserSpecifiedImage: "plain:1"}), fault.Invalid, "filter.image.image")
	refused(t, list(t.Context(), &runtimeapi.ImageSpec{ImageRef: "sha256:2"}), fault.Invalid, "filter.image.image")
	if err := list(t.Context(), &runtimeapi.ImageSpec{}); err != nil {
		t.Error(err)
	}
}

// The kubelet compares handlers of images and containers, and images have none. It shows a
// mounted image's image_ref to the user.
func TestImagesOfAContainer(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	d.Images = images{{ID: "sha256:1", Tags: []string{"lab.test/web:1"}, Digests: []string{"lab.test/web@sha256:bb"}}}
	spec := func() *runtimeapi.ImageSpec {
		return &runtimeapi.ImageSpec{
			Image: "sha256:1", UserSpecifiedImage: "lab.test/web:1", RuntimeHandler: "other", ImageRef: "something else",
			Annotations: map[string]string{"a": "b"},
		}
	}
	config := containerConfig(func(c *runtimeapi.ContainerConfig) {
		c.Image, c.Mounts = spec(), []*runtimeapi.Mount{{ContainerPath: "/image", Image: spec()}}
	})
	if _, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config}); err != nil {
		t.Fatal(err)
	}
	asked := &runtimeapi.ContainerConfig{}
	if err := proto.Unmarshal(d.actors.last().(container.Create).Config, asked); err != nil {
		t.Fatal(err)
	}
	mounted := asked.GetMounts()[0].GetImage()
	if mounted.GetImageRef() != "sha256:1" || mounted.GetImage() != "sha256:1" || mounted.GetRuntimeHandler() != "" {
		t.Errorf("mounted is %v", mounted)
	}
	if own := asked.GetImage(); own.GetRuntimeHandler() != "" || own.GetAnnotations()["a"] != "b" {
		t.Errorf("the image is %v", own)
	}
	all, err := d.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || all.GetImages()[0].GetSpec().GetRuntimeHandler() != "" {
		t.Errorf("listed %v, %v", all, err)
	}
}

func TestVerboseImageStatus(t *testing.T) {
	d := newDesk(t, nil)
	d.Images = images{
		{ID: "1", Config: &imagespec.Image{Author: "me", Config: imagespec.ImageConfig{Cmd: []string{"run"}}}, Labels: map[string]string{"a": "b"}, StopSignal: "SIGQUIT"},
		{ID: "2"}, // an artifact
	}
	type info struct {
		Labels     map[string]string
		StopSignal string
		ImageSpec  *imagespec.Image
	}
	status := func(ref string) (shown info) {
		t.Helper()
		answer, err := d.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}, Verbose: true})
		if err == nil {
			err = json.Unmarshal([]byte(answer.GetInfo()["info"]), &shown)
		}
		if err != nil {
			t.Fatal(err)
		}
		return shown
	}
	if i := status("1"); i.Labels["a"] != "b" || i.StopSignal != "SIGQUIT" || i.ImageSpec == nil || i.ImageSpec.Author != "me" || i.ImageSpec.Config.Cmd[0] != "run" {
		t.Errorf("the info is %+v", i)
	}
	if i := status("2"); i.ImageSpec != nil {
		t.Errorf("the info of an artifact is %+v", i)
	}
}

// The kubelet knows a failed creation by the word with which the message begins.
func TestWordsOfFailedCreations(t *testing.T) {
	for _, test := range []struct {
		kind   fault.Kind
		reason string
		begins string
	}{
		{fault.SignatureRefused, "config.image: refused", "SignatureValidationFailed: "},
		{fault.SignatureRefused, "ImageVolumeMountFailed: mounts[0].image: SignatureValidationFailed: refused", "ImageVolumeMountFailed: "},
		{fault.NotFound, "ImageVolumeMountFailed: mounts[0].image: not there", "ImageVolumeMountFailed: "},
		{fault.NotFound, "config.image: not there", "create 1: "},
	} {
		err := fault.New(test.kind, "create", "1", "%s", test.reason)
		got := createError(err)
		if message := status.Convert(Status(got)).Message(); !strings.HasPrefix(message, test.begins) || !strings.Contains(message, err.Error()) {
			t.Errorf("%v becomes %q", err, message)
		}
		if code := status.Code(Status(got)); code != codeOfKind(test.kind) {
			t.Errorf("%v becomes %v", err, code)
		}
	}
}
