package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	library "go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// volumeImage is an image whose links try to lead out of it.
func volumeImage(t testing.TB, s *Store) Image {
	t.Helper()
	server := images.Registry(t)
	link := func(path, target string) images.File {
		return images.File{Path: path, Mode: fs.ModeSymlink | 0o777, Target: target}
	}
	dir := func(path string) images.File { return images.File{Path: path, Mode: fs.ModeDir | 0o755} }
	file := func(path, text string, mode fs.FileMode) images.File {
		return images.File{Path: path, Mode: mode, Content: []byte(text)}
	}
	ref := server.Push(t, "data:v1", images.Build(t, images.Spec{Layers: [][]images.File{{
		dir("data"), dir("data/deep"), file("data/file", "data", 0o644), file("data/deep/file", "deep", 0o644),
		file("data/run", "#!/bin/sh\n", fs.ModeSetuid|0o755),
		dir("etc"), file("etc/hostname", "of the image", 0o644),
		dir("links"),
		link("links/inside", "../data/deep"),
		link("links/absolute", "/data/deep"),
		link("links/up", "../../../../../../../../etc"),
		link("links/root", "/"),
		link("links/proc", "/proc/self/root/etc"),
		link("links/loop", "loop"),
		link("links/nowhere", "/does/not/exist"),
	}}}))
	return pull(t, s, server, ref, ref)
}

func mountVolume(t testing.TB, s *Store, request MountImageRequest) string {
	t.Helper()
	path, err := s.Volumes.MountImage(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func unmountVolume(t testing.TB, s *Store, id string) {
	t.Helper()
	for range 2 { // the second time it is gone, which is as good
		if err := s.Volumes.Unmount(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	expectNothing(t, s, volumeLayer(id))
	if _, err := os.Lstat(s.layout.volumePath(id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mountpoint of volume %s: %v", id, err)
	}
}

func expectFile(t testing.TB, path, want string) {
	t.Helper()
	if content, err := os.ReadFile(path); err != nil || string(content) != want {
		t.Errorf("%s is %q, %v; want %q", path, content, err, want)
	}
}

func TestImageVolumeLife(t *testing.T) {
	ctx := context.Background()
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	request := MountImageRequest{ID: VolumeID(id("container"), 3), Image: image.Names[0]}
	path := mountVolume(t, s, request)
	expectFile(t, filepath.Join(path, "data/file"), "data")

	if err := os.WriteFile(filepath.Join(path, "data/file"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing a file of the image: %v, want that the file system is read-only", err)
	}
	if err := exec.Command(filepath.Join(path, "data/run")).Run(); err != nil {
		t.Errorf("executing a file of the image: %v", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil || stat.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC) != unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("mount flags are %#x, %v; want nosuid and nodev", stat.Flags, err)
	}

	for _, remove := range []string{image.Names[0], image.ID} {
		var inUse *ImageInUseError
		if err := s.Images.Remove(ctx, remove); !errors.As(err, &inUse) || inUse.ContainerID != id("container") {
			t.Errorf("Remove(%q) = %v, want that the container uses it", remove, err)
		}
	}
	if ids, err := s.Rootfses.List(ctx); err != nil || len(ids) > 0 {
		t.Errorf("a volume is taken for a root filesystem: %q, %v", ids, err)
	}
	if ids, err := s.Volumes.List(ctx); err != nil || !slices.Equal(ids, []string{request.ID}) {
		t.Errorf("Volumes() = %q, %v", ids, err)
	}

	s.Close() // the daemon restarts
	s = open(t, s.options)
	if again := mountVolume(t, s, request); again != path {
		t.Errorf("mounted on %s, was %s", again, path)
	}
	expectFile(t, filepath.Join(path, "data/file"), "data")
	if below := mountsBelow(t, s.layout.runRoot); len(below) != 1 {
		t.Errorf("after repetitions there are the mounts %q, want one", below)
	}
	unmountVolume(t, s, request.ID)
	if left, err := filepath.Glob(filepath.Join(s.layout.runRoot, volumesDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if err := s.Images.Remove(ctx, image.ID); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}

func TestSubPaths(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	for i, test := range []struct {
		subPath string
		file    string // in the volume; empty if the sub path must be refused
		content string
		why     string // part of the refusal
	}{
		{"", "data/deep/file", "deep", ""},
		{".", "data/deep/file", "deep", ""},
		{"data", "deep/file", "deep", ""},
		{"data/deep/", "file", "deep", ""},
		{"./data//deep", "file", "deep", ""},
		{"links/inside", "file", "deep", ""},
		{"links/absolute", "file", "deep", ""},
		{"links/up", "hostname", "of the image", ""},
		{"links/root/links/root/etc", "hostname", "of the image", ""},
		{"links/proc", "", "", "does not exist"},
		{"links/loop", "", "", "cannot be found"},
		{"links/nowhere", "", "", "does not exist"},
		{"nowhere", "", "", "does not exist"},
		{"data/nowhere/deep", "", "", "does not exist"},
		{"data/file", "", "", "not a directory"},
		{"data/file/deep", "", "", "not a directory"},
		{"/data", "", "", "absolute"},
		{"../data", "", "", ".."},
		{"data/..", "", "", ".."},
		{"a\x00b", "", "", "cannot be found"},
		{strings.Repeat("x", 5000), "", "", "cannot be found"},
	} {
		request := MountImageRequest{ID: VolumeID(id("container"), i), Image: image.ID, SubPath: test.subPath}
		path, err := s.Volumes.MountImage(t.Context(), request)
		if test.file == "" {
			if !errors.Is(err, ErrSubPath) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("sub path %q: %v, want that it %s", test.subPath, err, test.why)
			}
			expectNothing(t, s, volumeLayer(request.ID))
			continue
		}
		if err != nil {
			t.Errorf("sub path %q: %v", test.subPath, err)
			continue
		}
		expectFile(t, filepath.Join(path, test.file), test.content)
		unmountVolume(t, s, request.ID)
	}
	if err := s.Images.Remove(t.Context(), image.ID); err != nil {
		t.Errorf("what was refused keeps the image: %v", err)
	}
}

func TestMountImageRefuses(t *testing.T) {
	ctx := t.Context()
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	first := MountImageRequest{ID: VolumeID(id("container"), 0), Image: image.ID, SubPath: "data"}
	mountVolume(t, s, first)
	defer unmountVolume(t, s, first.ID)
	for name, test := range map[string]struct {
		request MountImageRequest
		want    error // nil: any
	}{
		"unknown image":  {MountImageRequest{ID: VolumeID(id("container"), 1), Image: "not.here/image:v1"}, ErrImageNotFound},
		"other sub path": {MountImageRequest{ID: first.ID, Image: image.ID}, ErrVolumeConflict},
		"other image":    {MountImageRequest{ID: first.ID, Image: "not.here/image:v1", SubPath: "data"}, ErrVolumeConflict},
		"no number":      {MountImageRequest{ID: id("container"), Image: image.ID}, nil},
		"path as id":     {MountImageRequest{ID: id("container") + "-0/../../x", Image: image.ID}, nil},
		"negative":       {MountImageRequest{ID: VolumeID(id("container"), -1), Image: image.ID}, nil},
	} {
		if _, err := s.Volumes.MountImage(ctx, test.request); err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error is %v, want %v", name, err, test.want)
		}
	}
	if err := s.Volumes.Unmount(ctx, "../x"); err == nil {
		t.Error("a path is accepted as the id of a volume")
	}
}

func TestVolumesGoWithTheirContainer(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	one, two := id("one"), id("two")
	prepare(t, s, one, image)
	for i := range 3 {
		mountVolume(t, s, MountImageRequest{ID: VolumeID(one, i), Image: image.ID})
	}
	kept := mountVolume(t, s, MountImageRequest{ID: VolumeID(two, 0), Image: image.ID, SubPath: "data"})
	release(t, s, one)
	expectNothing(t, s, one)
	for i := range 3 {
		expectNothing(t, s, volumeLayer(VolumeID(one, i)))
	}
	expectFile(t, filepath.Join(kept, "file"), "data")
	release(t, s, two) // whose root filesystem there never was
	expectNothing(t, s, volumeLayer(VolumeID(two, 0)))
	if below := mountsBelow(t, filepath.Dir(s.layout.runRoot)); len(below) > 0 {
		t.Errorf("mounts are left: %q", below)
	}
}

// An image's name may move to another image while a container has the volume.
func TestVolumeStaysOfItsImage(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	request := MountImageRequest{ID: VolumeID(id("container"), 0), Image: image.Names[0]}
	mountVolume(t, s, request)
	defer unmountVolume(t, s, request.ID)
	if err := s.lib.RemoveNames(image.ID, image.Names); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(s.layout.volumePath(request.ID), 0); err != nil {
		t.Fatal(err)
	}
	expectFile(t, filepath.Join(mountVolume(t, s, request), "data/file"), "data")
}

func TestVolumeInEveryHalfDoneState(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	request := MountImageRequest{ID: VolumeID(id("container"), 0), Image: image.ID, SubPath: "data"}
	layer := volumeLayer(request.ID)
	for name, damage := range map[string]func(path string) error{
		"whole":       func(string) error { return nil },
		"not mounted": func(path string) error { return unix.Unmount(path, 0) },
		"after a reboot": func(path string) error {
			return errors.Join(unix.Unmount(path, 0), unix.Unmount(s.layout.rootfsMount(layer), 0),
				os.RemoveAll(filepath.Join(s.layout.runRoot, volumesDir)))
		},
		"announced": func(path string) error {
			return errors.Join(unix.Unmount(path, 0), unix.Unmount(s.layout.rootfsMount(layer), 0), os.RemoveAll(s.layout.rootfsDir(layer)),
				os.Rename(s.recordPath(request.ID), s.recordPath(request.ID)+making))
		},
		"mounted twice": func(path string) error { return unix.Mount(path, path, "", unix.MS_BIND, "") },
		"layer without record": func(path string) error {
			return os.Remove(s.recordPath(request.ID))
		},
		"record without layer": func(path string) error {
			return errors.Join(unix.Unmount(path, 0), unix.Unmount(s.layout.rootfsMount(layer), 0), os.RemoveAll(s.layout.rootfsDir(layer)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s = open(t, s.options) // the last one's is closed
			for _, restart := range []bool{false, true} {
				damaged := func() {
					t.Helper()
					if err := damage(mountVolume(t, s, request)); err != nil {
						t.Fatal(err)
					}
					if restart {
						s.Close()
						s = open(t, s.options)
					}
				}
				damaged()
				expectFile(t, filepath.Join(mountVolume(t, s, request), "file"), "data")
				unmountVolume(t, s, request.ID)
				damaged()
				unmountVolume(t, s, request.ID)
			}
		})
	}
}

func TestMountsTellWhatIsMountedForWhom(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	container := id("container")
	rootfs := prepare(t, s, container, image)
	defer release(t, s, container)
	volume := MountImageRequest{ID: VolumeID(container, 0), Image: image.ID}
	path := mountVolume(t, s, volume)
	foreign := filepath.Join(s.layout.runRoot, "foreign")
	if err := errors.Join(os.Mkdir(foreign, 0o700), unix.Mount("tmpfs", foreign, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(foreign, 0); err != nil {
			t.Error(err)
		}
	}()
	mounts, err := s.Mounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Path: rootfs.Mountpoint, ContainerID: container, ImageID: image.ID},
		{Path: s.layout.rootfsMount(volumeLayer(volume.ID)), ContainerID: container, ImageID: image.ID, VolumeID: volume.ID},
		{Path: path, ContainerID: container, ImageID: image.ID, VolumeID: volume.ID},
		{Path: foreign},
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("Mounts() = %+v, want %+v", mounts, want)
	}
}

func TestVolumesWithVfs(t *testing.T) {
	s, _ := openConf(t, "[storage]\ndriver='vfs'\ngraphroot='%s/graph'\nrunroot='%s/run'\n")
	image := volumeImage(t, s)
	request := MountImageRequest{ID: VolumeID(id("container"), 0), Image: image.ID, SubPath: "links/up"}
	for range 2 {
		expectFile(t, filepath.Join(mountVolume(t, s, request), "hostname"), "of the image")
	}
	unmountVolume(t, s, request.ID)
}

func TestKillDuringMountAndUnmountOfVolumes(t *testing.T) {
	s := open(t, dirs(t))
	image := volumeImage(t, s)
	options := s.options
	s.Close()
	container := id("container")
	for _, pause := range killAfter(killRounds) {
		kill := killableChild(t, "volumes", options, image.ID, container)
		time.Sleep(pause)
		kill()
		s := open(t, options)
		expectFile(t, filepath.Join(mountVolume(t, s, MountImageRequest{ID: VolumeID(container, 0), Image: image.ID}), "data/file"), "data")
		release(t, s, container)
		if ids, err := s.Volumes.List(context.Background()); err != nil || len(ids) > 0 {
			t.Errorf("Volumes() = %q, %v", ids, err)
		}
		if mounts, err := s.Mounts(context.Background()); err != nil || len(mounts) > 0 {
			t.Errorf("Mounts() = %+v, %v", mounts, err)
		}
		if _, err := s.lib.Container(volumeLayer(VolumeID(container, 0))); !errors.Is(err, library.ErrContainerUnknown) {
			t.Error(err)
		}
		s.Close()
	}
	s = open(t, options)
	if err := s.Images.Remove(context.Background(), image.ID); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}

func TestDirectoryVolumes(t *testing.T) {
	ctx := context.Background()
	s := open(t, dirs(t))
	artifact := filepath.Join(filepath.Dir(s.layout.graphRoot), "artifacts", "one")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(artifact, "sub"), 0o755),
		os.WriteFile(filepath.Join(artifact, "sub", "model"), []byte("weights"), 0o444),
		os.Symlink("../../../../../../etc", filepath.Join(artifact, "out")),
	); err != nil {
		t.Fatal(err)
	}
	container := id("container")
	request := MountDirectoryRequest{ID: VolumeID(container, 1), Dir: artifact, SubPath: "sub"}
	var path string
	for range 2 {
		var err error
		if path, err = s.Volumes.MountDirectory(ctx, request); err != nil {
			t.Fatal(err)
		}
		s.Close() // the daemon restarts
		s = open(t, s.options)
	}
	expectFile(t, filepath.Join(path, "model"), "weights")
	if err := os.Remove(filepath.Join(path, "model")); !errors.Is(err, unix.EROFS) {
		t.Errorf("removing a file: %v, want that the file system is read-only", err)
	}
	want := []Mount{{Path: path, ContainerID: container, VolumeID: request.ID}}
	if mounts, err := s.Mounts(ctx); err != nil || !slices.Equal(mounts, want) {
		t.Errorf("Mounts() = %+v, %v; want %+v", mounts, err, want)
	}
	for dir, want := range map[string][]string{
		artifact: {container}, filepath.Dir(artifact): {container}, artifact + "x": nil, filepath.Join(artifact, "sub"): nil,
	} {
		if users, err := s.Volumes.DirectoryUsers(ctx, dir); err != nil || !slices.Equal(users, want) {
			t.Errorf("DirectoryUsers(%s) = %q, %v; want %q", dir, users, err, want)
		}
	}
	for name, refused := range map[string]struct {
		request MountDirectoryRequest
		want    error
	}{
		"outside":        {MountDirectoryRequest{ID: VolumeID(container, 2), Dir: artifact, SubPath: "out"}, ErrSubPath},
		"a file":         {MountDirectoryRequest{ID: VolumeID(container, 2), Dir: artifact, SubPath: "sub/model"}, ErrSubPath},
		"other sub path": {MountDirectoryRequest{ID: request.ID, Dir: artifact}, ErrVolumeConflict},
		"not there":      {MountDirectoryRequest{ID: VolumeID(container, 2), Dir: artifact + "x"}, fs.ErrNotExist},
	} {
		if _, err := s.Volumes.MountDirectory(ctx, refused.request); !errors.Is(err, refused.want) {
			t.Errorf("%s: %v, want %v", name, err, refused.want)
		}
	}
	image := volumeImage(t, s)
	if _, err := s.Volumes.MountImage(ctx, MountImageRequest{ID: request.ID, Image: image.ID}); !errors.Is(err, ErrVolumeConflict) {
		t.Errorf("an image as the same volume: %v", err)
	}
	mountVolume(t, s, MountImageRequest{ID: VolumeID(container, 3), Image: image.ID})
	if _, err := s.Volumes.MountDirectory(ctx, MountDirectoryRequest{ID: VolumeID(container, 3), Dir: artifact}); !errors.Is(err, ErrVolumeConflict) {
		t.Errorf("a directory as an image's volume: %v", err)
	}
	if ids, err := s.Volumes.List(ctx); err != nil || !slices.Equal(ids, []string{VolumeID(container, 3), request.ID}) {
		t.Errorf("Volumes() = %q, %v", ids, err)
	}
	release(t, s, container)
	if ids, err := s.Volumes.List(ctx); err != nil || len(ids) > 0 {
		t.Errorf("Volumes() = %q, %v", ids, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.layout.runRoot, volumesDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	expectFile(t, filepath.Join(artifact, "sub", "model"), "weights")
}
