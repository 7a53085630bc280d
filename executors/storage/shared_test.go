package storage

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	library "go.podman.io/storage"

	"github.com/stele-runtime/stele/test/images"
)

// tool finds one of the programs that share stores with Stele. They have versions of the
// library that are years older, as on many nodes.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install the package %s", err, name)
	}
	return path
}

// acceptAnything is a policy.json for tools.
const acceptAnything = `{"default": [{"type": "insecureAcceptAnything"}]}`

// skopeo copies images; "store:NAME" stands for an image in the store.
func skopeo(t testing.TB, s *Store, arguments ...string) {
	t.Helper()
	for i, argument := range arguments {
		if name, in := strings.CutPrefix(argument, "store:"); in {
			arguments[i] = "containers-storage:[overlay@" + s.layout.graphRoot + "+" + s.layout.runRoot + ":overlay.skip_mount_home=true]" + name
		}
	}
	arguments = append([]string{"--policy", writeConf(t, "policy.json", acceptAnything), "--tmpdir", t.TempDir()}, arguments...)
	command := exec.Command(tool(t, "skopeo"), arguments...)
	command.Env = append(os.Environ(), confVariable+"=/dev/null")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("skopeo %q: %v: %s", arguments, err, output)
	}
}

func buildah(t testing.TB, s *Store, arguments ...string) string {
	t.Helper()
	arguments = append([]string{
		"--root", s.layout.graphRoot, "--runroot", s.layout.runRoot, "--storage-driver", "overlay",
		"--storage-opt", "overlay.skip_mount_home=true", "--registries-conf", "/dev/null",
	}, arguments...)
	command := exec.Command(tool(t, "buildah"), arguments...)
	command.Env = append(os.Environ(), confVariable+"=/dev/null")
	output, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.Join(err, errors.New(string(exit.Stderr)))
		}
		t.Fatalf("buildah %q: %v", arguments, err)
	}
	return strings.TrimSpace(string(output))
}

func TestImagesGoToAndFroBetweenSkopeoAndStele(t *testing.T) {
	ctx := t.Context()
	server := images.Registry(t)
	s := open(t, dirs(t))

	// The tool's image is seen at once, and the tool can read Stele's.
	pushed := small(t, "theirs", v1.Config{User: "12", Env: []string{"A=b"}})
	ref := server.Push(t, "theirs:v1", pushed)
	if _, err := s.Images.Resolve(ctx, "shared.example/theirs:v1"); !errors.Is(err, ErrImageNotFound) {
		t.Fatalf("before it was copied: %v", err)
	}
	skopeo(t, s, "copy", "--src-tls-verify=false", "docker://"+ref, "store:shared.example/theirs:v1")
	found, err := s.Images.Resolve(ctx, "shared.example/theirs:v1")
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := pushed.ConfigName(); found.ID != want.Hex || found.User != "12" {
		t.Errorf("skopeo's image is %+v, want %s", found, want)
	}
	rootfs := prepare(t, s, id("container"), found)
	expectFile(t, filepath.Join(rootfs.Mountpoint, "file"), "theirs")
	mountVolume(t, s, MountImageRequest{ID: VolumeID(id("container"), 0), Image: found.ID})
	release(t, s, id("container"))

	ours := server.Push(t, "ours:v1", small(t, "ours", v1.Config{}))
	image := pull(t, s, server, ours, "shared.example/ours:v1")
	layoutDir := t.TempDir()
	skopeo(t, s, "copy", "store:shared.example/ours:v1", "oci:"+layoutDir+":out")
	if content, err := os.ReadFile(filepath.Join(layoutDir, "index.json")); err != nil || !json.Valid(content) {
		t.Errorf("skopeo's copy of our image: %q, %v", content, err)
	}
	skopeo(t, s, "copy", "oci:"+layoutDir+":out", "store:shared.example/back:v1")
	if back, err := s.Images.Resolve(ctx, "shared.example/back:v1"); err != nil || back.ID != image.ID || len(back.Names) != 2 {
		t.Errorf("the image that came back is %+v, %v", back, err)
	}

	skopeo(t, s, "delete", "store:shared.example/theirs:v1")
	if _, err := s.Images.Resolve(ctx, "shared.example/theirs:v1"); !errors.Is(err, ErrImageNotFound) {
		t.Errorf("after skopeo removed it: %v", err)
	}
	if err := s.Images.Remove(ctx, "shared.example/back:v1"); err != nil {
		t.Error(err)
	}
	if err := s.Images.Remove(ctx, image.ID); err != nil {
		t.Error(err)
	}
	// skopeo is too old to see that the image was held.
	must(t, s.holds.settle(ctx), s.holds.settle(ctx))
	if _, err := s.Images.CollectOrphans(ctx, 0); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}

// buildah makes a container with a layer and a mount in the store, as podman does.
func TestContainersOfOthersAreLeftAlone(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	s := open(t, dirs(t))
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	image := pull(t, s, server, ref, ref)
	prepare(t, s, id("container"), image)

	name := buildah(t, s, "from", "--pull-never", ref)
	mountpoint := buildah(t, s, "mount", name)
	written := filepath.Join(mountpoint, "written")
	if err := os.WriteFile(written, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	scratch := buildah(t, s, "from", "scratch")
	containers, err := s.lib.Containers()
	if err != nil || len(containers) != 3 { // one holds the image
		t.Fatalf("%d containers, %v", len(containers), err)
	}

	// Everything that removes apparent garbage.
	s.Close()
	s = open(t, s.options)
	if removed, err := s.Images.CollectOrphans(ctx, 0); err != nil || removed != 0 {
		t.Errorf("CollectOrphans = %d, %v", removed, err)
	}
	if ids, err := s.Rootfses.List(ctx); err != nil || !slices.Equal(ids, []string{id("container")}) {
		t.Errorf("Rootfses() = %q, %v", ids, err)
	}
	release(t, s, id("container"))
	for _, container := range containers {
		if container.ID == holdOf(image.ID) {
			continue
		}
		if err := s.Rootfses.Release(ctx, container.ID); !errors.Is(err, ErrRootfsConflict) {
			t.Errorf("Rootfses.Release of buildah's container: %v", err)
		}
	}
	expectFile(t, written, "theirs")
	if list := buildah(t, s, "containers", "--noheading", "--format", "{{.ContainerName}}"); !strings.Contains(list, name) || !strings.Contains(list, scratch) {
		t.Errorf("buildah has the containers %q, want %s and %s", list, name, scratch)
	}

	var inUse *ImageInUseError
	if err := s.Images.Remove(ctx, ref); !errors.As(err, &inUse) {
		t.Errorf("removing an image that buildah uses: %v", err)
	} else if !slices.ContainsFunc(containers, func(c library.Container) bool { return c.ID == inUse.ContainerID && slices.Contains(c.Names, name) }) {
		t.Errorf("it is used by %s, want buildah's container", inUse.ContainerID)
	}
	mounts, err := s.Mounts(ctx)
	if err != nil || !slices.Contains(mounts, Mount{Path: mountpoint}) {
		t.Errorf("Mounts() = %+v, %v; want buildah's as nobody's", mounts, err)
	}

	buildah(t, s, "umount", name)
	buildah(t, s, "rm", name, scratch)
	if err := s.Images.Remove(ctx, ref); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}
