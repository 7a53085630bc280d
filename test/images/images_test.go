package images_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/stele-runtime/stele/test/images"
)

func TestSameContentsGiveSameDigest(t *testing.T) {
	first, err := images.Busybox(t, v1.Config{}).Digest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := images.Busybox(t, v1.Config{}).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("digests differ: %s and %s", first, second)
	}
	other, err := images.Busybox(t, v1.Config{User: "app"}).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if other == first {
		t.Error("another configuration has the same digest")
	}
}

func TestPushedImageIsServed(t *testing.T) {
	server := images.Registry(t)
	for _, format := range []images.Format{images.OCI, images.Docker} {
		pushed := server.Push(t, "some/busybox:1", images.Build(t, images.Spec{
			Format: format,
			Layers: [][]images.File{images.BusyboxFiles(t)},
		}))
		ref, err := name.ParseReference(pushed, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(pulled); err != nil {
			t.Error(err)
		}
	}
}
