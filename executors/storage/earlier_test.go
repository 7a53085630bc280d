package storage

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	library "go.podman.io/storage"
	"golang.org/x/sys/unix"
)

// prepareAsBefore makes a root filesystem as Stele did before writable layers were outside of
// the library.
func prepareAsBefore(t testing.TB, s *Store, container string, image Image) Rootfs {
	t.Helper()
	record := rootfsRecord{Owner: rootfsOwner, ImageID: image.ID, Labels: map[string]string{"name": "test"}}
	return Rootfs{Mountpoint: mountAsBefore(t, s, container, image, record)}
}

func mountAsBefore(t testing.TB, s *Store, layer string, image Image, record any) string {
	t.Helper()
	metadata, err := json.Marshal(record)
	must(t, err, s.Rootfses.layers.library.create(layer, image.ID, string(metadata)))
	mountpoint, err := s.lib.Mount(layer, "")
	must(t, err)
	must(t, unix.Mount("", mountpoint, "", unix.MS_PRIVATE, ""))
	return mountpoint
}

// halfDoneBefore are the states in which a crash left root filesystems of earlier versions.
var halfDoneBefore = map[string]func(t *testing.T, s *Store, rootfs Rootfs, container string){
	"whole": func(*testing.T, *Store, Rootfs, string) {},
	"not mounted, and counted so": func(t *testing.T, s *Store, _ Rootfs, container string) {
		_, err := s.lib.Unmount(container, true)
		must(t, err)
	},
	"not mounted, but counted": func(t *testing.T, _ *Store, rootfs Rootfs, _ string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0))
	},
	"mounted, but not counted": func(t *testing.T, s *Store, _ Rootfs, _ string) {
		forgetMounts(t, s)
	},
	"killed while it mounted with mapped ids": func(t *testing.T, s *Store, _ Rootfs, container string) {
		_, err := s.lib.Unmount(container, true)
		must(t, err)
		bindImage(t, s, filepath.Join(s.layout.libraryDir(container), mappedDir))
	},
	"layer without record": func(t *testing.T, s *Store, _ Rootfs, container string) {
		forgetContainers(t, s)
		_, err := s.lib.Layer(container)
		must(t, err)
	},
	"record without layer": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0))
		forgetLayers(t, s)
		must(t, os.RemoveAll(s.layout.libraryDir(container)))
	},
	"files and mount without records": func(t *testing.T, s *Store, _ Rootfs, _ string) {
		forgetContainers(t, s)
		forgetLayers(t, s)
		forgetMounts(t, s)
	},
}

// A node is upgraded while containers run: their root filesystems are used, and removed, in
// every state.
func TestRootfsesOfAnEarlierVersion(t *testing.T) {
	expectHealed(t, halfDoneBefore, prepareAsBefore)
}

// What runs on a root filesystem of an earlier version keeps it, and is listed, measured and
// explained; so is a volume.
func TestAnUpgradeTouchesNoContainer(t *testing.T) {
	ctx := context.Background()
	s, image := pulled(t)
	container := id("container")
	before := prepareAsBefore(t, s, container, image)
	must(t, os.WriteFile(filepath.Join(before.Mountpoint, "written"), []byte("by it"), 0o600))
	volume := MountImageRequest{ID: VolumeID(container, 0), Image: image.ID}
	path := s.layout.volumePath(volume.ID)
	layer := mountAsBefore(t, s, volumeLayer(volume.ID), image, volumeRecord{
		Owner: volumeOwner, VolumeID: volume.ID, ContainerID: container, ImageID: image.ID, Ref: image.ID,
	})
	must(t, os.MkdirAll(path, 0o700), mountDirectory(layer, "", path, IDMaps{}))
	s.Close()
	s = open(t, s.options)

	if ids, err := s.Rootfses.List(ctx); err != nil || !slices.Equal(ids, []string{container}) {
		t.Errorf("Rootfses.List() = %q, %v", ids, err)
	}
	if ids, err := s.Volumes.List(ctx); err != nil || !slices.Equal(ids, []string{volume.ID}) {
		t.Errorf("Volumes.List() = %q, %v", ids, err)
	}
	if used, err := s.Usage.Rootfs(ctx, container); err != nil || used.Inodes != 2 {
		t.Errorf("it takes %+v, %v", used, err)
	}
	mounts, err := s.Mounts(ctx)
	if err != nil || len(mounts) != 3 {
		t.Errorf("mounted are %+v, %v", mounts, err)
	}
	for _, mount := range mounts {
		if mount.ContainerID != container || mount.ImageID != image.ID {
			t.Errorf("mounted is %+v", mount)
		}
	}
	var inUse *ImageInUseError
	if err := s.Images.Remove(ctx, image.ID); !errors.As(err, &inUse) || inUse.ContainerID != container {
		t.Errorf("removing its image: %v", err)
	}
	if again := prepare(t, s, container, image); again.Mountpoint != before.Mountpoint {
		t.Errorf("it is now on %s, was on %s", again.Mountpoint, before.Mountpoint)
	}
	expectFile(t, filepath.Join(before.Mountpoint, "written"), "by it")
	if again := mountVolume(t, s, volume); again != path {
		t.Errorf("its volume is now on %s, was on %s", again, path)
	}
	expectFile(t, filepath.Join(path, "file"), "content")
	// One more beside it, of this version.
	prepare(t, s, id("another"), image)
	release(t, s, id("another"))
	if released, err := s.Rootfses.Collect(ctx, func(string) bool { return false }); err != nil || len(released) > 0 {
		t.Errorf("what is mounted was collected: %q, %v", released, err)
	}
	release(t, s, container)
	expectNothing(t, s, container)
	expectNothing(t, s, volumeLayer(volume.ID))
	must(t, s.Images.Remove(ctx, image.ID))
	expectEmpty(t, s)
}

// After a boot, what earlier versions made goes, too.
func TestCollectOfAnEarlierVersion(t *testing.T) {
	s, image := pulled(t)
	ctx := context.Background()
	must(t, unix.Unmount(prepareAsBefore(t, s, id("back"), image).Mountpoint, 0))
	must(t, unix.Unmount(prepareAsBefore(t, s, id("known"), image).Mountpoint, 0))
	must(t, unix.Unmount(mountAsBefore(t, s, volumeLayer(VolumeID(id("back"), 0)), image, volumeRecord{
		Owner: volumeOwner, VolumeID: VolumeID(id("back"), 0), ContainerID: id("back"), ImageID: image.ID,
	}), 0))
	released, err := s.Rootfses.Collect(ctx, func(container string) bool { return container == id("known") })
	if err != nil || !slices.Equal(released, []string{id("back")}) {
		t.Errorf("released %q, %v", released, err)
	}
	expectNothing(t, s, id("back"))
	expectNothing(t, s, volumeLayer(VolumeID(id("back"), 0)))
	if _, err := s.lib.Container(id("known")); err != nil {
		t.Errorf("the other: %v", err)
	}
	release(t, s, id("known"))
}

// Images are held from the first container to some time after the last.
func TestHolds(t *testing.T) {
	ctx := context.Background()
	s, image := pulled(t)
	held := func() bool {
		t.Helper()
		_, err := s.lib.Container(holdOf(image.ID))
		if err != nil && !errors.Is(err, library.ErrContainerUnknown) {
			t.Fatal(err)
		}
		return err == nil
	}
	deleted := func() error {
		_, err := s.lib.DeleteImage(image.ID, true)
		return err
	}
	if held() {
		t.Error("the image is held before there is a container")
	}
	prepare(t, s, id("one"), image)
	mountVolume(t, s, MountImageRequest{ID: VolumeID(id("two"), 0), Image: image.ID})
	for range 3 {
		must(t, s.holds.settle(ctx))
	}
	if err := deleted(); !errors.Is(err, library.ErrImageUsedByContainer) {
		t.Errorf("another program removes an image that is used: %v", err)
	}
	release(t, s, id("one"))
	must(t, s.holds.settle(ctx), s.holds.settle(ctx))
	if !held() {
		t.Error("an image with a volume is not held")
	}
	release(t, s, id("two"))
	must(t, s.holds.settle(ctx))
	if !held() {
		t.Error("the hold was dropped at once")
	}
	// A container in between begins the time anew.
	prepare(t, s, id("three"), image)
	must(t, s.holds.settle(ctx))
	release(t, s, id("three"))
	must(t, s.holds.settle(ctx))
	if !held() {
		t.Error("the hold was dropped at once")
	}
	must(t, s.holds.settle(ctx))
	if held() {
		t.Error("the hold of an unused image is left")
	}
	// Others may remove a hold by force.
	prepare(t, s, id("four"), image)
	must(t, s.lib.DeleteContainer(holdOf(image.ID)))
	prepare(t, s, id("five"), image)
	if !held() {
		t.Error("the hold was not made again")
	}
	release(t, s, id("four"))
	release(t, s, id("five"))
	// A start drops what nothing needs.
	s.Close()
	s = open(t, s.options)
	if held() {
		t.Error("after a start the image is still held")
	}
	must(t, deleted())
	if _, err := s.Rootfses.Prepare(ctx, RootfsRequest{ContainerID: id("six"), ImageID: image.ID}); !errors.Is(err, ErrImageNotFound) {
		t.Errorf("without the image: %v", err)
	}
	expectNothing(t, s, id("six"))
	expectEmpty(t, s)
}

// What was removed and not unlinked goes at the next start.
func TestRemovedLayersAreUnlinkedByTheNextStart(t *testing.T) {
	s, image := pulled(t)
	rootfs := prepare(t, s, id("container"), image)
	must(t, os.WriteFile(filepath.Join(rootfs.Mountpoint, "written"), nil, 0o600))
	s.removed.beside.end() // a daemon that is killed at this moment
	release(t, s, id("container"))
	if left := list(t, s.layout.removed(), "*/diff/written"); len(left) != 1 {
		t.Errorf("removed and not unlinked are %q", left)
	}
	s.Close()
	s = open(t, s.options)
	expectNothing(t, s, id("container"))
	expectOnlyWhatRecordsExplain(t, s)
}

// Files of the image are never taken for those of a removed container.
func TestUnlinkingStopsAtMounts(t *testing.T) {
	s, image := pulled(t)
	prepare(t, s, id("container"), image)
	s.removed.beside.end()
	release(t, s, id("container"))
	removed := filepath.Join(s.layout.removed(), list(t, s.layout.removed(), "*")[0])
	bindImage(t, s, filepath.Join(removed, mappedDir))
	if err := s.removed.unlinkLayer(removed); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unlinking: %v", err)
	}
	must(t, unix.Unmount(filepath.Join(removed, mappedDir, "0"), 0), s.removed.unlinkLayer(removed))
	expectFile(t, filepath.Join(prepare(t, s, id("another"), image).Mountpoint, "file"), "content")
	release(t, s, id("another"))
}

// A link whose name was not written down goes with its layer, and no other does: not that of the
// next layer of this id either, which is there before the first one is unlinked.
func TestUnlinkingFindsLinksWithoutNames(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s, image := pulled(t)
			prepare(t, s, id("stays"), image)
			links := list(t, s.removed.links(), "*")
			prepare(t, s, id("container"), image)
			s.removed.beside.end()
			must(t, spoil(filepath.Join(s.layout.rootfsDir(id("container")), linkFile)))
			release(t, s, id("container"))
			prepare(t, s, id("container"), image)
			if s.removed.unlink(t.Context()); len(list(t, s.removed.links(), "*")) != len(links)+1 {
				t.Errorf("the links are %q, not %q and one more", list(t, s.removed.links(), "*"), links)
			}
			release(t, s, id("container"))
			if s.removed.unlink(t.Context()); !slices.Equal(list(t, s.removed.links(), "*"), links) {
				t.Errorf("the links are %q, not %q", list(t, s.removed.links(), "*"), links)
			}
			release(t, s, id("stays"))
		})
	}
}
