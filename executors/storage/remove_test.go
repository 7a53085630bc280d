package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

func TestRemove(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	pushed := small(t, "content", v1.Config{})
	ref := server.Push(t, "app:v1", pushed)
	manifest, _ := pushed.Digest()
	byDigest := server.Host + "/app@" + manifest.String()
	one, two, elsewhere := server.Host+"/app:v1", server.Host+"/app:v2", server.Host+"/other:v1"

	for _, test := range []struct {
		name   string
		names  []string
		remove func(Image) string
		left   []string // names of the image afterwards; nil if it must be gone
	}{
		{"last tag", []string{one}, func(Image) string { return one }, nil},
		{"one tag of two", []string{one, two}, func(Image) string { return one }, []string{two}},
		{"id", []string{one, two, elsewhere}, func(i Image) string { return i.ID }, nil},
		{"beginning of id", []string{one, two}, func(i Image) string { return i.ID[:12] }, nil},
		{"digest, all of the repository", []string{one, two, elsewhere}, func(Image) string { return byDigest }, []string{elsewhere}},
		{"digest, pulled by digest", []string{byDigest}, func(Image) string { return byDigest }, nil},
		{"unknown name", []string{one}, func(Image) string { return two }, []string{one}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, dirs(t))
			var image Image
			for _, name := range test.names {
				image = pull(t, s, server, ref, name)
			}
			for range 2 { // the second time it is gone, which is as good
				if err := s.Images.Remove(ctx, test.remove(image)); err != nil {
					t.Fatal(err)
				}
			}
			found, err := s.Images.Resolve(ctx, image.ID)
			if test.left == nil {
				if !errors.Is(err, ErrImageNotFound) {
					t.Errorf("the image is still there: %v", err)
				}
				if layers := layerDirs(t, s); len(layers) != 0 {
					t.Errorf("layers are still there: %q", layers)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Names) != len(test.left) || found.Names[0] != test.left[0] {
				t.Errorf("names left are %q, want %q", found.Names, test.left)
			}
		})
	}
}

func TestRemoveKeepsAnImageInUse(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	s := open(t, dirs(t))
	image := pull(t, s, server, ref, ref)
	container := id("user")
	prepare(t, s, container, image)

	for _, remove := range []string{ref, image.ID} {
		err := s.Images.Remove(ctx, remove)
		var inUse *ImageInUseError
		if !errors.As(err, &inUse) || !errors.Is(err, ErrImageInUse) || inUse.ContainerID != container {
			t.Errorf("Remove(%q) = %v, want that %s uses it", remove, err, container)
		}
	}
	if found, err := s.Images.Resolve(ctx, ref); err != nil || found.ID != image.ID {
		t.Errorf("the name stands for %q, %v after a refused removal", found.ID, err)
	}
	release(t, s, container)
	if err := s.Images.Remove(ctx, ref); err != nil {
		t.Error(err)
	}
}

// layerDirs lists what the driver has on disk, records or not.
func layerDirs(t *testing.T, s *Store) []string {
	t.Helper()
	var ids []string
	for _, root := range s.layout.writableRoots() {
		entries, err := os.ReadDir(filepath.Dir(s.layout.layerDir(root, "any")))
		if errors.Is(err, os.ErrNotExist) {
			continue // vfs before the first layer
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if wholeID.MatchString(entry.Name()) {
				ids = append(ids, entry.Name())
			}
		}
	}
	return ids
}

// TestRemovedSince: a pull that fails while a removal is under way was disturbed by it,
// whether that began before the pull or ends after its failure.
func TestRemovedSince(t *testing.T) {
	m := &Images{}
	during := func(steps ...func()) bool {
		before := m.Removals()
		for _, step := range steps {
			step()
		}
		return m.RemovedSince(before)
	}
	begin, end := func() { m.removals.begun.Add(1) }, func() { m.removals.ended.Add(1) }
	if during() {
		t.Error("disturbed by nothing")
	}
	if !during(begin) {
		t.Error("not disturbed by a removal that began")
	}
	if !during() {
		t.Error("not disturbed by a removal that goes on throughout")
	}
	if !during(end) {
		t.Error("not disturbed by a removal that ended")
	}
	if during() {
		t.Error("disturbed by a removal that was over")
	}
	if !during(begin, end) {
		t.Error("not disturbed by a whole removal")
	}
}
