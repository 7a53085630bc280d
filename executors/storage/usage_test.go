package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFilesystems(t *testing.T) {
	ctx := context.Background()
	s, image := pulled(t)
	clock := time.Now()
	s.now = func() time.Time { return clock }
	container := id("container")
	rootfs := prepare(t, s, container, image)
	defer func() { release(t, s, container) }()

	images, containers, err := s.Usage.Filesystems(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// The layer's directory and the one small file in it.
	if images.Inodes != 2 || images.Bytes < 4096 || images.Bytes > 64<<10 {
		t.Errorf("images take %+v", images)
	}
	if containers.Inodes != 1 || !containers.Timestamp.Equal(clock) {
		t.Errorf("containers take %+v", containers)
	}
	if _, err := os.Stat(images.Path); err != nil {
		t.Error(err)
	}

	if err := os.WriteFile(filepath.Join(rootfs.Mountpoint, "new"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(rootfs.Mountpoint, "new"), filepath.Join(rootfs.Mountpoint, "same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(rootfs.Mountpoint, "outside")); err != nil {
		t.Fatal(err)
	}
	if _, again, err := s.Usage.Filesystems(ctx); err != nil || again != containers {
		t.Errorf("a figure of the same moment differs: %+v, %v", again, err)
	}
	clock = clock.Add(rootfsUsageAge)
	// The old figure is returned, and refreshed in the background.
	if _, again, err := s.Usage.Filesystems(ctx); err != nil || again != containers {
		t.Errorf("the call measured: %+v, %v", again, err)
	}
	s.Usage.refresh.wait()
	_, containers, err = s.Usage.Filesystems(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if containers.Inodes != 3 || containers.Bytes < 1<<20 || containers.Bytes > 2<<20 {
		t.Errorf("containers take %+v", containers)
	}
	if !containers.Timestamp.Equal(clock) {
		t.Errorf("containers were measured at %v, want %v", containers.Timestamp, clock)
	}
	own, err := s.Usage.Rootfs(ctx, container)
	if err != nil || own != containers {
		t.Errorf("Usage.Rootfs = %+v, %v; want %+v", own, err, containers)
	}
	// Nobody has asked for a long time.
	if err := os.Remove(filepath.Join(rootfs.Mountpoint, "outside")); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(rootfsUsageTooOld)
	if own, err = s.Usage.Rootfs(ctx, container); err != nil || own.Inodes != 2 || !own.Timestamp.Equal(clock) {
		t.Errorf("Usage.Rootfs = %+v, %v; want 2 inodes at %v", own, err, clock)
	}
	if _, err := s.Usage.Rootfs(ctx, id("unknown")); !errors.Is(err, ErrRootfsNotFound) {
		t.Errorf("unknown container: %v", err)
	}
}

func TestLayerSizesAreKeptOverRestarts(t *testing.T) {
	ctx := context.Background()
	s, _ := pulled(t)
	first, _, err := s.Usage.Filesystems(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, s.options)
	if len(s.Usage.cache.layers) != 1 {
		t.Errorf("%d layer sizes were kept, want 1", len(s.Usage.cache.layers))
	}
	again, _, err := s.Usage.Filesystems(ctx)
	if err != nil || again.Bytes != first.Bytes || again.Inodes != first.Inodes {
		t.Errorf("after a restart %+v, %v; before %+v", again, err, first)
	}
	s.Close()
	if err := os.WriteFile(filepath.Join(s.options.GraphRoot, usageCacheFile), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.options)
	if again, _, err := s.Usage.Filesystems(ctx); err != nil || again.Bytes != first.Bytes {
		t.Errorf("with a damaged cache %+v, %v", again, err)
	}
}

// After a pull no call has to walk its layers.
func TestPulledLayersAreMeasuredBesideTheCalls(t *testing.T) {
	s, image := pulled(t)
	if _, known := s.Usage.cache.layer(image.Config.RootFS.DiffIDs[0].Encoded()); known {
		t.Fatal("the layer was measured by the pull itself")
	}
	end, err := s.Images.BeginPull(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	end(nil)
	s.Usage.beside.wait()
	if _, known := s.Usage.cache.layer(image.Config.RootFS.DiffIDs[0].Encoded()); !known {
		t.Errorf("the layer is not measured; known are %v", s.Usage.cache.layers)
	}
}

// The figures of the stats are there from the beginning, never walk in the call, and are
// refreshed when they are old.
func TestLastRootfsNeverMeasuresInTheCall(t *testing.T) {
	s, image := pulled(t)
	clock := time.Now()
	s.now = func() time.Time { return clock }
	container := id("container")
	rootfs := prepare(t, s, container, image)
	defer func() { release(t, s, container) }()

	fresh, known := s.Usage.LastRootfs(container)
	if !known || fresh.Inodes != 1 || !fresh.Timestamp.Equal(clock) {
		t.Fatalf("a new container takes %+v, known %v", fresh, known)
	}
	if err := os.WriteFile(filepath.Join(rootfs.Mountpoint, "new"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	measured := clock
	clock = clock.Add(rootfsUsageAge - time.Second)
	if again, _ := s.Usage.LastRootfs(container); again != fresh {
		t.Errorf("a fresh figure changed: %+v", again)
	}
	s.Usage.refresh.wait()
	clock = clock.Add(10 * rootfsUsageTooOld)
	old, known := s.Usage.LastRootfs(container)
	if !known || old != fresh || !old.Timestamp.Equal(measured) {
		t.Errorf("the call measured, or lied about when: %+v", old)
	}
	s.Usage.refresh.wait()
	if now, _ := s.Usage.LastRootfs(container); now.Inodes != 2 || now.Bytes < 1<<20 || !now.Timestamp.Equal(clock) {
		t.Errorf("after the refresh %+v", now)
	}
}

func TestLastRootfsAfterAStart(t *testing.T) {
	s, image := pulled(t)
	container := id("container")
	prepare(t, s, container, image)
	s.Close()
	s = open(t, s.options)
	defer func() { release(t, s, container) }()
	if used, known := s.Usage.LastRootfs(container); known {
		t.Errorf("the call measured: %+v", used)
	}
	s.Usage.refresh.wait()
	if used, known := s.Usage.LastRootfs(container); !known || used.Inodes != 1 {
		t.Errorf("after the refresh %+v, known %v", used, known)
	}
}

// What is gone leaves nothing in memory, and is no error.
func TestLastRootfsOfOneThatIsGone(t *testing.T) {
	s, image := pulled(t)
	container := id("container")
	prepare(t, s, container, image)
	release(t, s, container)
	clock := time.Now().Add(2 * rootfsUsageAge)
	s.now = func() time.Time { return clock }
	s.Usage.LastRootfs(container)
	s.Usage.refresh.wait()
	if n := len(s.Usage.cache.rootfses) + len(s.Usage.cache.refreshing); n != 0 {
		t.Errorf("%d entries are left of a container that is gone", n)
	}
}

// A refresher has one goroutine, works in order, and stops when it is ended.
func TestRefresher(t *testing.T) {
	var done []string
	begun, proceed := make(chan struct{}), make(chan struct{})
	r := newRefresher(func(ctx context.Context, id string, _ pace) {
		if id == "a" {
			close(begun)
			<-proceed
		}
		if ctx.Err() == nil {
			done = append(done, id)
		}
	})
	r.soon("a")
	<-begun
	r.soon("b")
	r.soon("c")
	close(proceed)
	r.wait()
	if got := strings.Join(done, ""); got != "abc" {
		t.Errorf("worked for %q", got)
	}
	r.end()
	r.soon("d")
	r.wait()
	if len(done) != 3 {
		t.Errorf("worked after the end, for %q", done)
	}
}

func TestUnhurriedWalkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pace := unhurried()
	for range paceEvery {
		if err := pace(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := pace(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the walk goes on: %v", err)
	}
}
