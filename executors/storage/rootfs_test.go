package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/selinux/go-selinux"
	library "go.podman.io/storage"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// pulled is a store with one image.
func pulled(t *testing.T) (*Store, Image) {
	t.Helper()
	server := images.Registry(t)
	s := open(t, dirs(t))
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{Env: []string{"A=b"}}))
	return s, pull(t, s, server, ref, ref)
}

func TestRootfsLife(t *testing.T) {
	s, image := pulled(t)
	one, two := id("one"), id("two")
	first, second := prepare(t, s, one, image), prepare(t, s, two, image)

	if content, err := os.ReadFile(filepath.Join(first.Mountpoint, "file")); err != nil || string(content) != "content" {
		t.Errorf("the image's file is %q, %v", content, err)
	}
	if first.ImageID != image.ID || !slices.Equal(first.Config.Config.Env, []string{"A=b"}) {
		t.Errorf("rootfs is %+v", first)
	}
	if err := os.WriteFile(filepath.Join(first.Mountpoint, "file"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(second.Mountpoint, "file")); err != nil || string(content) != "content" {
		t.Errorf("the other container's file is %q, %v", content, err)
	}
	if want := s.layout.rootfsMount(one); first.Mountpoint != want {
		t.Errorf("mounted on %s; release would look at %s", first.Mountpoint, want)
	}
	for range 3 {
		prepare(t, s, one, image)
	}
	if mounts := mountsBelow(t, s.layout.rootfsDir(one)); len(mounts) != 1 {
		t.Errorf("after repetitions there are the mounts %q", mounts)
	}
	ids, err := s.Rootfses.List(context.Background())
	if want := []string{one, two}; err != nil || !slices.Equal(slices.Sorted(slices.Values(ids)), slices.Sorted(slices.Values(want))) {
		t.Errorf("Rootfses() = %q, %v", ids, err)
	}
	for range 2 {
		release(t, s, one)
		release(t, s, two)
	}
	expectNothing(t, s, one)
	expectNothing(t, s, two)
}

// expectNothing checks that no trace of a container is left.
func expectNothing(t testing.TB, s *Store, container string) {
	t.Helper()
	if _, err := s.lib.Container(container); !errors.Is(err, library.ErrContainerUnknown) {
		t.Errorf("record of %s: %v", container, err)
	}
	if _, err := s.lib.Layer(container); !errors.Is(err, library.ErrLayerUnknown) {
		t.Errorf("layer of %s: %v", container, err)
	}
	if known, err := s.hasRecord(container); known || err != nil {
		t.Errorf("record of %s outside of the library: %v, %v", container, known, err)
	}
	for _, dir := range []string{s.layout.rootfsDir(container), s.layout.libraryDir(container)} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("files of %s: %v", container, err)
		}
	}
	for _, mounted := range mountsBelow(t, s.options.GraphRoot) {
		if mounted == s.layout.rootfsMount(container) || mounted == s.layout.libraryMount(container) {
			t.Errorf("mount of %s is left", container)
		}
	}
	s.removed.beside.wait()
	if left := list(t, s.layout.removed(), "*"); len(left) > 0 {
		t.Errorf("removed and not unlinked are %q", left)
	}
}

// halfDone make, from a whole root filesystem, the states that a crash can leave.
var halfDone = map[string]func(t *testing.T, s *Store, rootfs Rootfs, container string){
	"whole": func(*testing.T, *Store, Rootfs, string) {},
	"not mounted": func(t *testing.T, _ *Store, rootfs Rootfs, _ string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0))
	},
	"mounted twice": func(t *testing.T, _ *Store, rootfs Rootfs, _ string) {
		must(t, unix.Mount(rootfs.Mountpoint, rootfs.Mountpoint, "", unix.MS_BIND, ""))
	},
	"killed while it mounted with mapped ids": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0))
		bindImage(t, s, filepath.Join(s.layout.rootfsDir(container), mappedDir))
	},
	"killed while it mounted composefs images": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0))
		bindImage(t, s, filepath.Join(s.layout.rootfsDir(container), composefsDir))
	},
	"announced": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0), os.RemoveAll(s.layout.rootfsDir(container)),
			os.Rename(s.recordPath(container), s.recordPath(container)+making))
	},
	"half made": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0), os.RemoveAll(filepath.Join(s.layout.rootfsDir(container), "work")),
			os.Rename(s.recordPath(container), s.recordPath(container)+making))
	},
	"half made, and its record cut off": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0), os.Remove(filepath.Join(s.layout.rootfsDir(container), linkFile)),
			os.Rename(s.recordPath(container), s.recordPath(container)+making), os.Truncate(s.recordPath(container)+making, 10))
	},
	"record cut off": func(t *testing.T, s *Store, _ Rootfs, container string) {
		must(t, os.Truncate(s.recordPath(container), 0))
	},
	"layer without record": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0), os.Remove(s.recordPath(container)))
	},
	"layer and mount without record": func(t *testing.T, s *Store, _ Rootfs, container string) {
		must(t, os.Remove(s.recordPath(container)))
	},
	"record without layer": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0), os.RemoveAll(s.layout.rootfsDir(container)))
	},
	"removed, and the record left": func(t *testing.T, s *Store, rootfs Rootfs, container string) {
		must(t, unix.Unmount(rootfs.Mountpoint, 0),
			os.Rename(s.layout.rootfsDir(container), filepath.Join(s.layout.removed(), container+"-1-1")))
		s.removed.unlinkSoon()
	},
	"image not held": func(t *testing.T, s *Store, _ Rootfs, _ string) {
		forgetContainers(t, s)
		forgetLayers(t, s)
	},
	"image held by a record without a layer": func(t *testing.T, s *Store, _ Rootfs, _ string) {
		forgetLayers(t, s)
	},
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// bindImage mounts the top layer of the store's image where a process leaves it that is killed while
// it mounts a root filesystem.
func bindImage(t testing.TB, s *Store, dir string) {
	t.Helper()
	images, err := s.lib.Images()
	if err != nil || len(images) != 1 {
		t.Fatalf("there are %d images, %v", len(images), err)
	}
	lower := filepath.Join(dir, "0")
	if err := os.MkdirAll(lower, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(s.layout.layerDir(s.layout.imageRoot, images[0].TopLayer), lower, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// forgetMounts, forgetContainers and forgetLayers lose what the library does not sync.
func forgetMounts(t testing.TB, s *Store) {
	t.Helper()
	forget(t, s, filepath.Join(s.options.RunRoot, "overlay-layers", "mountpoints.json"),
		filepath.Join(s.options.RunRoot, "overlay-layers", "mountpoints.lock"))
}

func forgetContainers(t testing.TB, s *Store) {
	t.Helper()
	forget(t, s, filepath.Join(s.options.GraphRoot, "overlay-containers", "volatile-containers.json"),
		filepath.Join(s.options.GraphRoot, "overlay-containers", "containers.lock"))
}

func forgetLayers(t testing.TB, s *Store) {
	t.Helper()
	forget(t, s, filepath.Join(s.options.GraphRoot, "overlay-layers", "volatile-layers.json"),
		filepath.Join(s.options.GraphRoot, "overlay-layers", "layers.lock"))
}

// forget removes a file of the library's, and marks its lock as a writer would, so
// that the library notices.
func forget(t testing.TB, _ *Store, path, lock string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock, []byte(fmt.Sprintf("%064d", time.Now().UnixNano())), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPrepareAndReleaseInEveryHalfDoneState(t *testing.T) {
	expectHealed(t, halfDone, prepare)
}

// expectHealed makes root filesystems, leaves them in each of some states, and expects that they
// are used, and removed without a trace, also by the next daemon.
func expectHealed(
	t *testing.T, states map[string]func(*testing.T, *Store, Rootfs, string), first func(testing.TB, *Store, string, Image) Rootfs,
) {
	for name, leave := range states {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) {
				s, image := pulled(t)
				container := id("container")
				broken := func() *Store {
					leave(t, s, first(t, s, container, image), container)
					if !restart {
						return s
					}
					s.Close()
					s = open(t, s.options)
					return s
				}
				rootfs := prepare(t, broken(), container, image)
				expectFile(t, filepath.Join(rootfs.Mountpoint, "file"), "content")
				release(t, s, container)
				expectNothing(t, s, container)

				release(t, broken(), container)
				expectNothing(t, s, container)
				if _, err := s.Images.Resolve(context.Background(), image.ID); err != nil {
					t.Errorf("the image was harmed: %v", err)
				}
				rootfs = prepare(t, s, container, image)
				expectFile(t, filepath.Join(rootfs.Mountpoint, "file"), "content")
				release(t, s, container)
				must(t, s.Images.Remove(t.Context(), image.ID))
				s.Close()
				s = open(t, s.options)
				expectEmpty(t, s)
			})
		}
	}
}

func TestRootfsSurvivesRestartOfTheDaemon(t *testing.T) {
	s, image := pulled(t)
	container := id("container")
	rootfs := prepare(t, s, container, image)
	file := filepath.Join(rootfs.Mountpoint, "written")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, s.options)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if again := prepare(t, s, container, image); again.Mountpoint != rootfs.Mountpoint {
		t.Errorf("mounted on %s, was %s", again.Mountpoint, rootfs.Mountpoint)
	}
	release(t, s, container)
	expectNothing(t, s, container)
}

func TestReleaseOfABusyMountDetachesItAndSaysSo(t *testing.T) {
	server := images.Registry(t)
	options := dirs(t)
	var log bytes.Buffer
	options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, options)
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)

	idle, busy := id("idle"), id("busy")
	prepare(t, s, idle, image)
	release(t, s, idle)
	if log.Len() > 0 {
		t.Errorf("the release of an idle mount is logged: %s", log.String())
	}
	held, err := os.Open(filepath.Join(prepare(t, s, busy, image).Mountpoint, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	release(t, s, busy)
	expectNothing(t, s, busy)
	if !strings.Contains(log.String(), busy) {
		t.Errorf("the log doesn't name the busy container: %s", log.String())
	}
}

func TestReleaseTakesMountsBelowTheRootfsAlong(t *testing.T) {
	s, image := pulled(t)
	container := id("container")
	rootfs := prepare(t, s, container, image)
	below := filepath.Join(rootfs.Mountpoint, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	release(t, s, container)
	expectNothing(t, s, container)
}

// Where mounts are shared (systemd's default), what is mounted in a container must
// not appear on the host.
func TestRootfsIsPrivateOnAHostWithSharedMounts(t *testing.T) {
	prepareElsewhere(t, "prepare on a shared host")
}

// Distributions have a policy's files also where SELinux is switched off.
func TestPrepareBesideAPolicyThatIsNotInForce(t *testing.T) {
	if selinux.GetEnabled() {
		t.Skip("SELinux is in force")
	}
	prepareElsewhere(t, "prepare beside a policy")
}

// prepareElsewhere lets a process with mounts of its own prepare a root filesystem.
func prepareElsewhere(t *testing.T, how string) {
	s, image := pulled(t)
	options := s.options
	s.Close()
	command := childCommand(t, how, options, []string{image.ID, id("container")})
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func TestPrepareRefuses(t *testing.T) {
	ctx := context.Background()
	s, image := pulled(t)
	container, foreign := id("container"), id("foreign")
	prepare(t, s, container, image)
	defer release(t, s, container)
	_, err := s.lib.CreateContainer(foreign, nil, image.ID, "", "another program's", &library.ContainerOptions{
		IDMappingOptions: types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := images.Registry(t)
	other := pull(t, s, server, server.Push(t, "other:v1", small(t, "other", v1.Config{})), server.Host+"/other:v1")

	for _, test := range []struct {
		name    string
		request RootfsRequest
		want    error // nil: any
	}{
		{"unknown image", RootfsRequest{ContainerID: id("x"), ImageID: id("no image")}, ErrImageNotFound},
		{"other image", RootfsRequest{ContainerID: container, ImageID: other.ID}, ErrRootfsConflict},
		{"another program's container", RootfsRequest{ContainerID: foreign, ImageID: image.ID}, ErrRootfsConflict},
		{"path as id", RootfsRequest{ContainerID: "../../escape", ImageID: image.ID}, nil},
		{"driver's own directory as id", RootfsRequest{ContainerID: "l", ImageID: image.ID}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Rootfses.Prepare(ctx, test.request)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
	if err := s.Rootfses.Release(ctx, foreign); !errors.Is(err, ErrRootfsConflict) {
		t.Errorf("another program's container: error is %v", err)
	}
	if _, err := s.lib.Container(foreign); err != nil {
		t.Errorf("another program's container was touched: %v", err)
	}
	if ids, err := s.Rootfses.List(ctx); err != nil || !slices.Equal(ids, []string{container}) {
		t.Errorf("Rootfses() = %q, %v", ids, err)
	}
}

func TestConcurrentRootfses(t *testing.T) {
	s, image := pulled(t)
	errs := make(chan error, 32)
	for i := range cap(errs) {
		go func() {
			// Two calls at a time for each container.
			container := id(fmt.Sprint(i / 2))
			_, err := s.Rootfses.Prepare(context.Background(), RootfsRequest{ContainerID: container, ImageID: image.ID})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for i := range cap(errs) {
		go func() { errs <- s.Rootfses.Release(context.Background(), id(fmt.Sprint(i/2))) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for i := range cap(errs) / 2 {
		expectNothing(t, s, id(fmt.Sprint(i)))
	}
}
