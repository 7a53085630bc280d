package spec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// CVE-2022-23648: a volume's path stays in the image.
func TestVolumeStaysInside(t *testing.T) {
	in := fixture()
	in.Image.Config.Volumes = map[string]struct{}{"/../../outside": {}}
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{FillVolume{Rootfs: in.Rootfs, Path: "/outside", Dir: in.VolumesDir + "/0"}}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
	in.Image.Config.Volumes = map[string]struct{}{"/a\x00": {}}
	if _, err := in.plan(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("NUL: %v", err)
	}
}

// Builders let through what cannot be a volume, and the same one twice.
func TestVolumesAsBuildersWriteThem(t *testing.T) {
	in := fixture()
	in.Image.Config.Volumes = map[string]struct{}{"": {}, "/": {}, "/a/../..": {}, "/data": {}, "/data/": {}}
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{FillVolume{Rootfs: in.Rootfs, Path: "/data", Dir: in.VolumesDir + "/3"}}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
}

// A volume's directory is numbered by the image alone, so that what a container
// wrote is found again whatever its pod mounts.
func TestVolumeKeepsItsNumber(t *testing.T) {
	in := fixture()
	in.Image.Config.Volumes = map[string]struct{}{"/a": {}, "/b": {}}
	in.Container.Mounts = []*cri.Mount{{ContainerPath: "/a", HostPath: "/h"}}
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{FillVolume{Rootfs: in.Rootfs, Path: "/b", Dir: in.VolumesDir + "/1"}}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
}
