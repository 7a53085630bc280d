package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	library "go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// killRounds is how often a child is killed. Under the race detector each round
// takes many times as long, as the library starts the program again for each layer.
var killRounds = map[bool]int{false: 12, true: 3}[underRace]

// killAfter are the moments at which children are killed, spread over one round of their
// work.
func killAfter(rounds int) []time.Duration {
	source := rand.New(rand.NewSource(1))
	pauses := make([]time.Duration, rounds)
	for i := range pauses {
		pauses[i] = time.Duration(source.Intn(60_000)) * time.Microsecond
	}
	return pauses
}

func TestKillDuringPrepareAndRelease(t *testing.T) {
	s, image := pulled(t)
	options := s.options
	s.Close()
	containers := []string{id("1"), id("2"), id("3")}
	for _, pause := range killAfter(killRounds) {
		kill := killableChild(t, "churn", options, append([]string{image.ID}, containers...)...)
		time.Sleep(pause)
		kill()
		s := open(t, options)
		prepare(t, s, containers[0], image)
		expectOnlyWhatRecordsExplain(t, s)
		for _, container := range containers {
			release(t, s, container)
			expectNothing(t, s, container)
		}
		if ids, err := s.Rootfses.List(context.Background()); err != nil || len(ids) > 0 {
			t.Errorf("Rootfses() = %q, %v", ids, err)
		}
		s.Close()
	}
	s = open(t, options)
	if err := s.Images.Remove(context.Background(), image.ID); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}

// TestRootfsesCollect: after a boot, unknown root filesystems go, and nothing else.
func TestRootfsesCollect(t *testing.T) {
	s, image := pulled(t)
	ctx := context.Background()
	for _, container := range []string{"known", "back", "back with a volume", "of another daemon"} {
		prepare(t, s, id(container), image)
	}
	mountVolume(t, s, MountImageRequest{ID: VolumeID(id("back with a volume"), 0), Image: image.ID})
	mountVolume(t, s, MountImageRequest{ID: VolumeID(id("only its volume is back"), 0), Image: image.ID})
	// As after a boot, but for the last one.
	for _, mount := range mountsBelow(t, s.options.RunRoot) {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range mountsBelow(t, s.options.GraphRoot) {
		if strings.Contains(mount, id("of another daemon")) {
			continue
		}
		if err := unix.Unmount(mount, 0); err != nil {
			t.Fatal(err)
		}
	}
	released, err := s.Rootfses.Collect(ctx, func(container string) bool { return container == id("known") })
	want := []string{id("back"), id("back with a volume"), id("only its volume is back")}
	slices.Sort(want)
	if err != nil || !slices.Equal(released, want) {
		t.Errorf("released %q, %v; want %q", released, err, want)
	}
	left, err := s.Rootfses.List(ctx)
	slices.Sort(left)
	kept := []string{id("known"), id("of another daemon")}
	slices.Sort(kept)
	if err != nil || !slices.Equal(left, kept) {
		t.Errorf("left are %q, %v; want %q", left, err, kept)
	}
	if volumes, err := s.Volumes.List(ctx); err != nil || len(volumes) > 0 {
		t.Errorf("left are the volumes %q, %v", volumes, err)
	}
	for _, container := range want {
		expectNothing(t, s, container)
	}
	for _, container := range kept {
		release(t, s, container)
	}
}

func TestKillDuringPullAndRemove(t *testing.T) {
	server := images.Registry(t)
	var layers [][]images.File
	for i := range 2 {
		content := make([]byte, 256<<10)
		rand.New(rand.NewSource(int64(i))).Read(content)
		var files []images.File
		for j := range 20 {
			files = append(files, images.File{Path: fmt.Sprintf("%d-%d", i, j), Mode: 0o644, Content: content[j*1000:]})
		}
		layers = append(layers, files)
	}
	ref := server.Push(t, "app:v1", images.Build(t, images.Spec{Layers: layers}))
	options := dirs(t)
	for _, pause := range killAfter(killRounds) {
		kill := killableChild(t, "pull", options, server.RegistriesConf, server.RegistriesConfDir, ref)
		time.Sleep(2 * pause)
		kill()
		s := open(t, options)
		if _, err := s.Images.CollectOrphans(context.Background(), 0); err != nil {
			t.Error(err)
		}
		expectOnlyWhatRecordsExplain(t, s)
		image := pull(t, s, server, ref, ref)
		rootfs := prepare(t, s, id("container"), image)
		if _, err := os.Stat(filepath.Join(rootfs.Mountpoint, "1-19")); err != nil {
			t.Errorf("the pulled image is not whole: %v", err)
		}
		release(t, s, id("container"))
		if err := s.Images.Remove(context.Background(), ref); err != nil {
			t.Error(err)
		}
		if _, err := s.Images.CollectOrphans(context.Background(), 0); err != nil {
			t.Error(err)
		}
		expectEmpty(t, s)
		s.Close()
	}
}

// expectOnlyWhatRecordsExplain checks that the disk has the files of each recorded layer
// and image, no unrecorded containers or mounts, and nothing temporary.
func expectOnlyWhatRecordsExplain(t *testing.T, s *Store) {
	t.Helper()
	records, err := s.lib.MultiList(library.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		t.Fatal(err)
	}
	var layers, packed, imageIDs, containers []string
	for _, layer := range records.Layers {
		layers = append(layers, layer.ID)
		if layer.UncompressedDigest != "" {
			packed = append(packed, layer.ID+".tar-split.gz")
		}
	}
	for _, image := range records.Images {
		imageIDs = append(imageIDs, image.ID)
	}
	for _, container := range records.Containers {
		containers = append(containers, container.ID)
	}
	expect := func(what string, got, want []string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s on disk are %q, those with records are %q", what, got, want)
		}
	}
	expect("layers", layerDirs(t, s), layers)
	root := s.layout.graphRoot
	expectRecordedWritable(t, s)
	expect("lists of files", list(t, s.layout.records(root, "layers"), "*.tar-split.gz"), packed)
	expect("images", list(t, s.layout.records(root, "images"), strings.Repeat("?", 64)), imageIDs)
	for _, container := range list(t, s.layout.records(root, "containers"), strings.Repeat("?", 64)) {
		if !slices.Contains(containers, container) {
			t.Errorf("container %s is on disk and has no record", container)
		}
	}
	if links := list(t, s.layout.driverDir(root), "l/*"); len(links) != len(layers) {
		t.Errorf("%d layers have the short names %q", len(layers), links)
	}
	for _, pattern := range []string{"overlay/tempdirs/*", "overlay/staging/*", "overlay-layers/tmp/*", "overlay-*/.tmp-*"} {
		if left := list(t, root, pattern); len(left) > 0 {
			t.Errorf("temporary files are left: %q", left)
		}
	}
	mounts, err := s.Mounts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range mounts {
		if mount.ContainerID == "" {
			t.Errorf("nothing explains the mount on %s", mount.Path)
		}
	}
}

// expectRecordedWritable checks that all writable layers on disk have a record, and none that
// was removed is left.
func expectRecordedWritable(t *testing.T, s *Store) {
	t.Helper()
	names, err := s.recordNames()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		names[i] = layerOf(name)
	}
	s.removed.beside.wait()
	own := s.layout.driverDir(s.layout.writableRoot())
	writable := list(t, own, strings.Repeat("?", 64))
	for _, layer := range writable {
		if !slices.Contains(names, layer) {
			t.Errorf("the writable layer %s has no record", layer)
		}
	}
	if links := list(t, own, "l/*"); len(links) > len(writable) {
		t.Errorf("%d writable layers have the short names %q", len(writable), links)
	}
	if left := list(t, s.layout.removed(), "*"); len(left) > 0 {
		t.Errorf("removed and not unlinked are %q", left)
	}
}

// list returns the names in a directory that match a pattern.
func list(t testing.TB, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		paths[i] = filepath.Base(path)
	}
	return paths
}

// expectEmpty checks that a store without images has nothing on disk either.
func expectEmpty(t *testing.T, s *Store) {
	t.Helper()
	if layers := layerDirs(t, s); len(layers) > 0 {
		t.Errorf("layers are left: %q", layers)
	}
	driver := s.layout.driver
	s.removed.beside.wait()
	for _, pattern := range []string{driver + "/" + strings.Repeat("?", 64), driver + "/dir/*", driver + "/l/*", "records/*", "removed/*"} {
		if left := list(t, s.layout.writableRoot(), pattern); len(left) > 0 {
			t.Errorf("of writable layers %q are left", left)
		}
	}
	for _, root := range s.layout.writableRoots() {
		for _, pattern := range []string{
			driver + "/l/*", driver + "/tempdirs/*", driver + "/staging/*", driver + "-layers/tmp/*",
			driver + "-layers/*.tar-split.gz", driver + "-*/.tmp-*",
			driver + "-images/????????????????*/*", driver + "-containers/????????????????????????????????*",
		} {
			left, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("files are left: %q", left)
			}
		}
	}
}

func TestOrphanedLayersGoWhenTheyAreOldAndNoPullIsUnderWay(t *testing.T) {
	ctx := context.Background()
	s, image := pulled(t)
	base, err := s.lib.CreateLayer("", "", nil, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	child, err := s.lib.CreateLayer("", base.ID, nil, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	collect := func(age time.Duration, want int) {
		t.Helper()
		if removed, err := s.Images.CollectOrphans(ctx, age); err != nil || removed != want {
			t.Errorf("CollectOrphans(%s) = %d, %v; want %d", age, removed, err, want)
		}
	}
	collect(time.Hour, 0)
	end, err := s.Images.BeginPull(ctx)
	if err != nil {
		t.Fatal(err)
	}
	collect(0, 0)
	end(nil)
	s.now = func() time.Time { return child.Created.Add(2 * time.Hour) }
	collect(time.Hour, 2)

	orphan, err := s.lib.CreateLayer("", "", nil, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if end, err = s.Images.BeginPull(ctx); err != nil {
		t.Fatal(err)
	}
	end(nil)
	if _, err := s.lib.Layer(orphan.ID); !errors.Is(err, library.ErrLayerUnknown) {
		t.Errorf("the end of a pull left an old orphan: %v", err)
	}
	prepare(t, s, id("container"), image)
	release(t, s, id("container"))
}

func TestPullWaitsForACollection(t *testing.T) {
	var g gate
	if _, may := g.tryCollect(); !may {
		t.Fatal("cannot collect")
	}
	if _, may := g.tryCollect(); may {
		t.Error("two collectors at once")
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.enter(cancelled, time.Now()); err == nil {
		t.Error("a pull begins while layers are collected")
	}
	entered := make(chan error)
	go func() { entered <- g.enter(context.Background(), time.Now()) }()
	g.doneCollecting(true)
	if err := <-entered; err != nil {
		t.Error(err)
	}
	if _, may := g.tryCollect(); may {
		t.Error("a collector begins while an image is pulled")
	}
	g.leave(false)
	if _, may := g.tryCollect(); !may {
		t.Error("cannot collect after the pull")
	}
}

func TestFilesWithoutRecordsAreRemoved(t *testing.T) {
	s, image := pulled(t)
	lost := id("lost")
	for _, path := range []string{
		filepath.Join(overlayDriver, lost, "diff", "file"),
		filepath.Join(overlayDriver+"-containers", lost, "userdata", "file"),
		filepath.Join(overlayDriver+"-images", lost, "manifest"),
		filepath.Join(overlayDriver+"-layers", lost+".tar-split.gz"),
		filepath.Join(overlayDriver+"-layers", ".tmp-layers.json123"),
	} {
		path = filepath.Join(s.options.GraphRoot, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bindImage(t, s, filepath.Join(s.layout.libraryDir(lost), mappedDir))
	bindImage(t, s, filepath.Join(s.layout.rootfsDir(lost), composefsDir))
	s.Close()
	s = open(t, s.options)
	s.removed.beside.wait()
	for _, pattern := range []string{"*/" + lost + "*", "*/*/" + lost + "*", "*/.tmp-*"} {
		if left, err := filepath.Glob(filepath.Join(s.options.GraphRoot, pattern)); err != nil || len(left) > 0 {
			t.Errorf("files are left: %q, %v", left, err)
		}
	}
	prepare(t, s, id("container"), image)
	release(t, s, id("container"))
}

func TestLinksOfLayersThatAreGoneAreRemoved(t *testing.T) {
	s, _ := pulled(t)
	links := filepath.Join(s.options.GraphRoot, overlayDriver, "l")
	before, err := os.ReadDir(links)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"DANGLING": "../" + id("gone") + "/diff", "ANOTHERS": "/somewhere"} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	open(t, s.options)
	if after, err := os.ReadDir(links); err != nil || len(after) != len(before)+1 {
		t.Errorf("%d links, %v; there were %d and one that isn't the driver's", len(after), err, len(before))
	}
}

// A crash between creating and writing the file with a layer's short name makes the driver
// remove the names of all layers with that one.
func TestLayerWithoutItsShortNameDoesNotTakeTheOthersAlong(t *testing.T) {
	s, image := pulled(t)
	container := id("container")
	prepare(t, s, container, image)
	must(t, os.Truncate(filepath.Join(s.layout.rootfsDir(container), linkFile), 0))
	prepareAsBefore(t, s, id("of an earlier version"), image)
	must(t, os.Truncate(filepath.Join(s.layout.libraryDir(id("of an earlier version")), linkFile), 0))
	s.Close()
	s = open(t, s.options)
	release(t, s, container)
	release(t, s, id("of an earlier version"))
	links := list(t, s.layout.driverDir(s.layout.graphRoot), "l/*")
	if len(links) != 2 {
		t.Fatalf("the short names are %q, want the image's and its hold's", links)
	}
	s.removed.beside.wait()
	// Names that are already lost come back.
	s.Close()
	if err := os.RemoveAll(filepath.Join(s.layout.driverDir(s.layout.graphRoot), linksDir)); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.options)
	if again := list(t, s.layout.driverDir(s.layout.graphRoot), "l/*"); len(again) != 1 || !slices.Contains(links, again[0]) { // no container holds the image any more
		t.Errorf("the short names are %q, were %q", again, links)
	}
	expectOnlyWhatRecordsExplain(t, s)
}

// A store that has lost its index of layers must not take the layers for garbage.
func TestDamagedIndexNeverLosesLayers(t *testing.T) {
	server := images.Registry(t)
	var log bytes.Buffer
	options := dirs(t)
	options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, options)
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)
	before := layerDirs(t, s)
	s.Close()
	if err := os.WriteFile(filepath.Join(options.GraphRoot, "overlay-layers", "layers.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	if after := layerDirs(t, s); len(before) == 0 || len(after) != len(before) {
		t.Errorf("layers on disk are %q, were %q", after, before)
	}
	if !strings.Contains(log.String(), image.ID) {
		t.Errorf("the log doesn't name the damaged image: %s", log.String())
	}
	pull(t, s, server, ref, ref)
	prepare(t, s, id("container"), image)
	release(t, s, id("container"))
}

func TestIndexOfContainersDamagedByPowerFailureIsSetAside(t *testing.T) {
	s, image := pulled(t)
	options := s.options
	prepare(t, s, id("container"), image)
	s.Close()
	index := filepath.Join(options.GraphRoot, "overlay-layers", "volatile-layers.json")
	if err := os.WriteFile(index, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	if _, err := os.Stat(index + ".damaged"); err != nil {
		t.Errorf("the damaged index was not kept: %v", err)
	}
	prepare(t, s, id("container"), image)
	release(t, s, id("container"))
	expectNothing(t, s, id("container"))
}
