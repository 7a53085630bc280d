package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	library "go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// openSmall opens a store on a filesystem of its own, of that size.
func openSmall(t testing.TB, size string) *Store {
	t.Helper()
	options := dirs(t)
	if err := os.MkdirAll(options.GraphRoot, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", options.GraphRoot, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(options.GraphRoot, 0); err != nil {
			t.Error(err)
		}
	})
	return open(t, options)
}

// fill takes all space of the store's filesystem until the returned function is called.
func fill(t testing.TB, s *Store) (free func()) {
	t.Helper()
	path := filepath.Join(s.layout.graphRoot, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func noise(seed int64, size int) []byte {
	content := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(content)
	return content
}

func TestPullOntoAFullDiskFailsAndLeavesNothing(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	s := openSmall(t, "8m")
	huge := server.Push(t, "huge:v1", images.Build(t, images.Spec{Layers: [][]images.File{
		{{Path: "fits", Mode: 0o644, Content: noise(1, 2<<20)}},
		{{Path: "does not", Mode: 0o644, Content: noise(2, 16<<20)}},
	}}))
	_, err := tryPull(ctx, s, registriesOf(server), huge, huge)
	if !IsFull(err) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("the error does not tell that the disk is full: %v", err)
	}
	if _, err := s.Images.CollectOrphans(ctx, 0); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
	expectOnlyWhatRecordsExplain(t, s)

	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)
	expectFile(t, filepath.Join(prepare(t, s, id("container"), image).Mountpoint, "file"), "content")
	release(t, s, id("container"))
}

// Leftovers of a pull that filled the disk go when the last pull has ended; older ones,
// which a retry may want, stay.
func TestPullsThatFilledTheDiskLeaveNothing(t *testing.T) {
	ctx := context.Background()
	s := open(t, dirs(t))
	layer := func() string {
		t.Helper()
		made, err := s.lib.CreateLayer("", "", nil, "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	begin := func() (end func(error)) {
		t.Helper()
		end, err := s.Images.BeginPull(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	expect := func(when string, id string, there bool) {
		t.Helper()
		_, err := s.lib.Layer(id)
		if (err == nil) != there || err != nil && !errors.Is(err, library.ErrLayerUnknown) {
			t.Errorf("%s: a layer is there: %v (%v), want %v", when, err == nil, err, there)
		}
	}
	before := layer()
	endFirst, endSecond := begin(), begin()
	during := layer()
	endFirst(fmt.Errorf("write: %w", unix.ENOSPC))
	expect("another pull goes on", during, true)
	endSecond(errors.New("something else"))
	expect("all pulls have ended", during, false)
	expect("all pulls have ended", before, true)

	end := begin()
	during = layer()
	end(errors.New("the registry is away"))
	expect("the disk was full for an earlier pull", during, true)
}

func TestContainersOnAFullDisk(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	s := openSmall(t, "8m")
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)
	living, failing := id("living"), id("failing")
	prepare(t, s, living, image)

	free := fill(t, s)
	_, err := s.Rootfses.Prepare(ctx, RootfsRequest{ContainerID: failing, ImageID: image.ID})
	if !IsFull(err) {
		t.Errorf("preparing a root filesystem: %v, want that the disk is full", err)
	}
	expectNothing(t, s, failing)
	_, err = s.Volumes.MountImage(ctx, MountImageRequest{ID: VolumeID(failing, 0), Image: image.ID})
	if !IsFull(err) {
		t.Errorf("mounting an image: %v, want that the disk is full", err)
	}
	expectNothing(t, s, volumeLayer(VolumeID(failing, 0)))
	// Freeing space must work without any.
	release(t, s, living)
	expectNothing(t, s, living)
	if err := s.Images.Remove(ctx, image.ID); err != nil {
		t.Errorf("removing an image when the disk is full: %v", err)
	}
	expectEmpty(t, s)
	free()
	image = pull(t, s, server, ref, ref)
	prepare(t, s, failing, image)
	release(t, s, failing)
}

func TestStoreOnAFullDiskCanBeOpened(t *testing.T) {
	server := images.Registry(t)
	s := openSmall(t, "8m")
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)
	free := fill(t, s)
	s.Close()
	s = open(t, s.options)
	if _, err := s.Images.Resolve(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Usage.Filesystems(t.Context()); err != nil {
		t.Error(err)
	}
	free()
	prepare(t, s, id("container"), image)
	release(t, s, id("container"))
}
