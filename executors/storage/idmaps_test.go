package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// from maps 65536 ids to those of the node from the given ones on.
func from(uid, gid uint32) IDMaps {
	return IDMaps{UIDs: []specs.LinuxIDMapping{{HostID: uid, Size: 65536}}, GIDs: []specs.LinuxIDMapping{{HostID: gid, Size: 65536}}}
}

// wantOwner checks whose a file is on the node.
func wantOwner(t *testing.T, path string, uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

// owned is a store with an image whose files are root's and a user's.
func owned(t *testing.T, options Options) (*Store, Image) {
	t.Helper()
	server := images.Registry(t)
	s := open(t, options)
	ref := server.Push(t, "owned:v1", images.Build(t, images.Spec{Layers: [][]images.File{
		{{Path: "of-root", Mode: 0o644, Content: []byte("lower")}},
		{{Path: "of-user", Mode: 0o600, UID: 1000, GID: 2000, Content: []byte("upper")}, {Path: "dir", Mode: fs.ModeDir | 0o755, UID: 1000, GID: 2000}},
	}}))
	return s, pull(t, s, server, ref, ref)
}

// Two containers with different users share the layers of an image, and nothing is copied.
func TestRootfsWithUsers(t *testing.T) {
	s, image := owned(t, dirs(t))
	layersBefore, err := s.lib.Layers()
	if err != nil {
		t.Fatal(err)
	}
	mapped := map[string]IDMaps{id("one"): from(200000, 300000), id("two"): from(400000, 400000)}
	for container, users := range mapped {
		var rootfs Rootfs
		for range 2 {
			if rootfs, err = s.Rootfses.Prepare(t.Context(), RootfsRequest{ContainerID: container, ImageID: image.ID, Users: users}); err != nil {
				t.Fatal(err)
			}
		}
		uid, gid := users.UIDs[0].HostID, users.GIDs[0].HostID
		for path, plus := range map[string][2]uint32{"": {}, "of-root": {}, "of-user": {1000, 2000}, "dir": {1000, 2000}} {
			wantOwner(t, filepath.Join(rootfs.Mountpoint, path), uid+plus[0], gid+plus[1])
		}
		// A file that changes is copied up with the id that it shows.
		changed := filepath.Join(rootfs.Mountpoint, "of-user")
		if err := os.Chmod(changed, 0o640); err != nil {
			t.Fatal(err)
		}
		wantOwner(t, changed, uid+1000, gid+2000)
	}
	plain := prepare(t, s, id("plain"), image)
	wantOwner(t, filepath.Join(plain.Mountpoint, "of-user"), 1000, 2000)
	layersAfter, err := s.lib.Layers()
	if err != nil || len(layersAfter) != len(layersBefore)+1 {
		t.Errorf("%d layers became %d, %v; want one that holds the image", len(layersBefore), len(layersAfter), err)
	}
	// The daemon restarts.
	s.Close()
	s = open(t, s.options)
	for container := range mapped {
		release(t, s, container)
		expectNothing(t, s, container)
	}
	release(t, s, id("plain"))
}

func TestVolumesWithUsers(t *testing.T) {
	s, image := owned(t, dirs(t))
	container, users := id("container"), from(200000, 300000)
	path := mountVolume(t, s, MountImageRequest{ID: VolumeID(container, 0), Image: image.ID, Users: users})
	wantOwner(t, filepath.Join(path, "of-user"), 201000, 302000)
	wantOwner(t, filepath.Join(path, "of-root"), 200000, 300000)
	unmountVolume(t, s, VolumeID(container, 0))

	artifact := filepath.Join(filepath.Dir(s.layout.graphRoot), "artifact")
	if err := errors.Join(os.Mkdir(artifact, 0o755), os.WriteFile(filepath.Join(artifact, "model"), nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	path, err := s.Volumes.MountDirectory(t.Context(), MountDirectoryRequest{ID: VolumeID(container, 1), Dir: artifact, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	wantOwner(t, filepath.Join(path, "model"), 200000, 300000)
	wantOwner(t, filepath.Join(artifact, "model"), 0, 0)
	if err := os.Remove(filepath.Join(path, "model")); !errors.Is(err, unix.EROFS) {
		t.Errorf("removing a file: %v, want that the file system is read-only", err)
	}
	unmountVolume(t, s, VolumeID(container, 1))
}

// A store that cannot map would copy the image for each container, in silence.
func TestNoIDMaps(t *testing.T) {
	options := dirs(t)
	options.Driver = "vfs"
	s, image := owned(t, options)
	if s.MapsIDs() {
		t.Error("vfs maps ids")
	}
	users := from(200000, 200000)
	if _, err := s.Rootfses.Prepare(t.Context(), RootfsRequest{ContainerID: id("c"), ImageID: image.ID, Users: users}); !errors.Is(err, ErrNoIDMaps) {
		t.Errorf("a root file system: %v", err)
	}
	if _, err := s.Volumes.MountImage(t.Context(), MountImageRequest{ID: VolumeID(id("c"), 0), Image: image.ID, Users: users}); !errors.Is(err, ErrNoIDMaps) {
		t.Errorf("a volume: %v", err)
	}
	expectNothing(t, s, id("c"))
	if mounts, err := s.Mounts(t.Context()); err != nil || len(mounts) > 0 {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
}

// BenchmarkRootfsWithUsers compares with BenchmarkRootfs: mapping costs a mount for each layer.
func BenchmarkRootfsWithUsers(b *testing.B) {
	server := images.Registry(b)
	s := open(b, dirs(b))
	ref := server.Push(b, "app:v1", images.Build(b, images.Spec{Layers: [][]images.File{{{Path: "file", Mode: 0o644}}}}))
	image := pull(b, s, server, ref, ref)
	for name, users := range map[string]IDMaps{"own": from(200000, 200000), "node": {}} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				container := id(fmt.Sprint(name, i))
				if _, err := s.Rootfses.Prepare(b.Context(), RootfsRequest{ContainerID: container, ImageID: image.ID, Users: users}); err != nil {
					b.Fatal(err)
				}
				if err := s.Rootfses.Release(b.Context(), container); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
