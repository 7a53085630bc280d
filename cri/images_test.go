package cri

import (
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// An artifact is an image without a configuration, and may have no tag. It has everything
// else that the kubelet's image collection needs.
func TestArtifactAmongImages(t *testing.T) {
	d := newDesk(t, nil)
	artifact := Image{ID: "cafe", Digests: []string{"lab.test/model@sha256:cafe"}, Size: 12, Pinned: true}
	d.Images = images{{ID: "beef", Tags: []string{"web:1"}, Username: "nobody"}, artifact}
	check := func(i *runtimeapi.Image) {
		t.Helper()
		if i.GetId() != "cafe" || i.GetSize() != 12 || !i.GetPinned() || len(i.GetRepoTags()) > 0 ||
			!slices.Equal(i.GetRepoDigests(), artifact.Digests) || i.GetUid() != nil || i.GetUsername() != "" {
			t.Errorf("artifact is %v", i)
		}
	}
	all, err := d.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.GetImages()) != 2 {
		t.Fatalf("listed %v, %v", all, err)
	}
	check(all.GetImages()[1])
	spec := &runtimeapi.ImageSpec{Image: "cafe"}
	some, err := d.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: spec}})
	if err != nil || len(some.GetImages()) != 1 {
		t.Fatalf("listed %v, %v", some, err)
	}
	check(some.GetImages()[0])
	for _, verbose := range []bool{false, true} {
		one, err := d.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: spec, Verbose: verbose})
		if err != nil {
			t.Fatal(err)
		}
		check(one.GetImage())
	}
}
