package images_test

import (
	"fmt"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
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
	for _, spec := range []images.Spec{
		{Format: images.OCI}, {Format: images.Docker},
		{Compression: images.Zstd}, {Compression: images.Uncompressed}, {Format: images.Docker, Compression: images.Uncompressed},
	} {
		spec.Layers = [][]images.File{images.BusyboxFiles(t), {images.Whiteout("bin/ls"), images.Opaque("etc")}}
		pushed := server.Push(t, "some/busybox:1", images.Build(t, spec))
		ref, err := name.ParseReference(pushed, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		var options []validate.Option
		if spec.Compression != images.Gzip {
			options = append(options, validate.Fast) // otherwise it wants gzip
		}
		if err := validate.Image(pulled, options...); err != nil {
			t.Errorf("format %d, compression %d: %v", spec.Format, spec.Compression, err)
		}
	}
}

func TestConvertedImageIsServed(t *testing.T) {
	server := images.Registry(t)
	from := server.Push(t, "some/image:1", images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "file", Mode: 0o644, Content: []byte("content")}}}}))
	for form, want := range map[images.Form]types.MediaType{
		images.Schema1: types.DockerManifestSchema1Signed, images.ZstdChunked: types.OCIManifestSchema1,
	} {
		ref, err := name.ParseReference(server.Convert(t, from, fmt.Sprintf("some/image:form-%d", form), form), name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Get(ref); err != nil || got.MediaType != want {
			t.Errorf("%s is %v, %v; want %s", ref, got, err, want)
		}
	}
}
