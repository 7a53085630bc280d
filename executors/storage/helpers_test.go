package storage

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	imagetypes "go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

func TestMain(m *testing.M) {
	if Reexec() {
		return
	}
	if runAsChild() {
		return
	}
	// Layers are unpacked by copies of the test program, which under the race detector
	// would each sleep for a second when they end.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

// dirs are the directories of a store under test; mounts left below them at the test's end
// are errors, and are unmounted.
func dirs(t testing.TB) Options {
	t.Helper()
	// Not t.TempDir: its name repeats the test's, and overlay's options are
	// separated by commas.
	root, err := os.MkdirTemp("", "stele-storage-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, mountpoint := range mountsBelow(t, root) {
			t.Errorf("%s is still mounted", mountpoint)
			if err := unix.Unmount(mountpoint, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", mountpoint, err)
			}
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return Options{
		StorageConf: "/dev/null", // what the machine's says is not the test's business
		GraphRoot:   filepath.Join(root, "storage"),
		RunRoot:     filepath.Join(root, "run"),
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func open(t testing.TB, options Options) *Store {
	t.Helper()
	s, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func mountsBelow(t testing.TB, root string) []string {
	t.Helper()
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var below []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); strings.HasPrefix(fields[4], root+"/") {
			below = append([]string{fields[4]}, below...)
		}
	}
	return below
}

// pull copies an image into the store under a name, without package registry.
func pull(t testing.TB, s *Store, server *images.Server, from, as string) Image {
	t.Helper()
	image, err := tryPull(context.Background(), s, registriesOf(server), from, as)
	if err != nil {
		t.Fatalf("pull %s: %v", from, err)
	}
	return image
}

// registries are the configuration files for registries.
type registries struct{ conf, confDir string }

func registriesOf(server *images.Server) registries {
	return registries{server.RegistriesConf, server.RegistriesConfDir}
}

func tryPull(ctx context.Context, s *Store, reached registries, from, as string) (Image, error) {
	source, err := docker.ParseReference("//" + from)
	if err != nil {
		return Image{}, err
	}
	named, err := reference.ParseNormalizedNamed(as)
	if err != nil {
		return Image{}, err
	}
	target, err := s.Images.Reference(reference.TagNameOnly(named))
	if err != nil {
		return Image{}, err
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return Image{}, err
	}
	system := &imagetypes.SystemContext{
		SystemRegistriesConfPath:    reached.conf,
		SystemRegistriesConfDirPath: reached.confDir,
		BlobInfoCacheDir:            s.options.RunRoot,
		BigFilesTemporaryDir:        s.options.RunRoot,
	}
	var copied imagetypes.ImageReference
	if _, err := copy.Image(ctx, policy, target, source, &copy.Options{
		SourceCtx: system, DestinationCtx: system, ReportResolvedReference: &copied,
	}); err != nil {
		return Image{}, err
	}
	id, err := s.Images.ImageIDAt(ctx, copied)
	if err != nil {
		return Image{}, err
	}
	return s.Images.Resolve(ctx, id)
}

// id makes a container id from a text.
func id(text string) string { return digest.FromString(text).Encoded() }

func prepare(t testing.TB, s *Store, container string, image Image) Rootfs {
	t.Helper()
	rootfs, err := s.Rootfses.Prepare(context.Background(), RootfsRequest{
		ContainerID: container,
		ImageID:     image.ID,
		Labels:      map[string]string{"name": "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return rootfs
}

func release(t testing.TB, s *Store, container string) {
	t.Helper()
	if err := s.Rootfses.Release(context.Background(), container); err != nil {
		t.Fatal(err)
	}
}

// small is an image with one small file, which has the text.
func small(t testing.TB, text string, config v1.Config) v1.Image {
	t.Helper()
	return images.Build(t, images.Spec{
		Config: config,
		Layers: [][]images.File{{{Path: "file", Mode: 0o644, Content: []byte(text)}}},
	})
}
