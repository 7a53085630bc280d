package registry

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	compressiontypes "go.podman.io/image/v5/pkg/compression/types"
	"go.podman.io/image/v5/signature"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	library "go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/test/images"
)

// convert copies an image within a registry, or out of it, in another form.
func convert(t *testing.T, server *images.Server, from string, to imagetypes.ImageReference, change func(*copy.Options)) {
	t.Helper()
	system := &imagetypes.SystemContext{
		SystemRegistriesConfPath: server.RegistriesConf, SystemRegistriesConfDirPath: server.RegistriesConfDir,
		BlobInfoCacheDir: t.TempDir(), BigFilesTemporaryDir: t.TempDir(),
	}
	judge, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	defer judge.Destroy()
	options := &copy.Options{SourceCtx: system, DestinationCtx: system}
	change(options)
	if _, err := copy.Image(context.Background(), judge, to, remote(t, from), options); err != nil {
		t.Fatalf("convert %s: %v", from, err)
	}
}

func remote(t *testing.T, name string) imagetypes.ImageReference {
	t.Helper()
	ref, err := docker.ParseReference("//" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// compressed makes a copy of an image with layers in another compression.
func compressed(t *testing.T, server *images.Server, from, to string, algorithm compressiontypes.Algorithm) {
	t.Helper()
	convert(t, server, from, remote(t, to), func(o *copy.Options) {
		system := *o.DestinationCtx
		system.CompressionFormat = &algorithm
		o.DestinationCtx, o.ForceCompressionFormat = &system, true
		o.ForceManifestMIMEType = "application/vnd.oci.image.manifest.v1+json"
	})
}

// expectFile checks a file of a pulled image as a container sees it.
func (n *node) expectFiles(t *testing.T, imageID string, files map[string]string) {
	t.Helper()
	n.inRootfs(t, imageID, func(root string) {
		for path, want := range files {
			if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
				t.Errorf("/%s has %d bytes, %v; want %d", path, len(got), err, len(want))
			}
		}
	})
}

func (n *node) inRootfs(t *testing.T, imageID string, look func(root string)) {
	t.Helper()
	container := strings.Repeat("c1", 32)
	rootfs, err := n.store.Rootfses.Prepare(context.Background(), storage.RootfsRequest{ContainerID: container, ImageID: imageID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.store.Rootfses.Release(context.Background(), container); err != nil {
			t.Error(err)
		}
	}()
	look(rootfs.Mountpoint)
}

func TestCompressionsAndManifests(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	texts := []string{strings.Repeat("one", 50_000), "two"}
	plain := server.Push(t, "schema:oci", small(t, images.Here(), texts...))
	for name, make := range map[string]func(ref string){
		"zstd":         func(ref string) { compressed(t, server, plain, ref, compression.Zstd) },
		"zstd-chunked": func(ref string) { compressed(t, server, plain, ref, compression.ZstdChunked) },
		"gzip":         func(ref string) { compressed(t, server, plain, ref, compression.Gzip) },
		"v2s2": func(ref string) {
			convert(t, server, plain, remote(t, ref), func(o *copy.Options) { o.ForceManifestMIMEType = manifest.DockerV2Schema2MediaType })
		},
		"v2s1": func(ref string) {
			convert(t, server, plain, remote(t, ref), func(o *copy.Options) { o.ForceManifestMIMEType = manifest.DockerV2Schema1SignedMediaType })
		},
	} {
		t.Run(name, func(t *testing.T) {
			ref := server.Host + "/schema:" + name
			make(ref)
			n := newNode(t, server)
			pulled := n.pull(t, ref)
			n.expectFiles(t, pulled.ImageID, map[string]string{"file0": texts[0], "file1": texts[1]})
			if left := n.temporary(t); len(left) > 0 {
				t.Errorf("temporary files are left: %q", left)
			}
		})
	}
}

// partialStore is a store that fetches only missing parts of zstd:chunked layers, as
// storage.conf can ask for.
type partialStore struct{ library.Store }

func (s partialStore) Reference(name reference.Named) (imagetypes.ImageReference, error) {
	return istorage.Transport.NewStoreReference(s.Store, name, "")
}

func (s partialStore) ReferenceByID(id string) (imagetypes.ImageReference, error) {
	return istorage.Transport.NewStoreReference(s.Store, nil, id)
}

func (s partialStore) ImageIDAt(_ context.Context, ref imagetypes.ImageReference) (string, error) {
	_, image, err := istorage.ResolveReference(ref)
	if err != nil {
		return "", err
	}
	return image.ID, nil
}

func (s partialStore) BeginPull(context.Context) (func(error), error) { return func(error) {}, nil }

func (s partialStore) Removals() uint64 { return 0 }

func (s partialStore) RemovedSince(uint64) bool { return false }

func TestPartialPull(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	big, changed := incompressible(3<<20), incompressible(10<<10)
	build := func(version string) v1.Image {
		return images.Build(t, images.Spec{Layers: [][]images.File{{
			{Path: "big", Mode: 0o644, Content: big},
			{Path: "small", Mode: 0o644, Content: append([]byte(version), changed...)},
		}}})
	}
	var refs []string
	for _, version := range []string{"v1", "v2"} {
		ref := server.Host + "/chunked:" + version
		compressed(t, server, server.Push(t, "plain:"+version, build(version)), ref, compression.ZstdChunked)
		refs = append(refs, ref)
	}
	root := t.TempDir()
	lib, err := library.GetStore(library.StoreOptions{
		GraphRoot: filepath.Join(root, "storage"), RunRoot: filepath.Join(root, "run"), GraphDriverName: "overlay",
		GraphDriverOptions: []string{"overlay.skip_mount_home=true"},
		PullOptions:        map[string]string{"enable_partial_images": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := lib.Shutdown(true); err != nil {
			t.Error(err)
		}
	})
	puller, err := New(Options{
		Store: partialStore{lib}, Dir: filepath.Join(root, "images"), PolicyPath: acceptAll(t), StallTimeout: 1 << 40,
		RegistriesConf: server.RegistriesConf, RegistriesConfDir: server.RegistriesConfDir,
	})
	if err != nil {
		t.Fatal(err)
	}
	var fetched []uint64
	for _, ref := range refs {
		pulled, err := puller.Pull(context.Background(), PullRequest{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		fetched = append(fetched, pulled.Bytes)
		mounted, err := lib.MountImage(pulled.ImageID, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string][]byte{"big": big, "small": append([]byte(ref[len(ref)-2:]), changed...)} {
			if got, err := os.ReadFile(filepath.Join(mounted, path)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has %d bytes, %v; want %d", path, len(got), err, len(want))
			}
		}
		if _, err := lib.UnmountImage(pulled.ImageID, true); err != nil {
			t.Error(err)
		}
	}
	if fetched[0] < uint64(len(big)) || fetched[1] > uint64(len(big)/10) {
		t.Errorf("fetched %d bytes, then %d; the second time the big file was there", fetched[0], fetched[1])
	}
}

func TestLayerContents(t *testing.T) {
	server := images.Registry(t)
	// cap_net_raw+ep, as VFS_CAP_REVISION_2 has it.
	const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir := func(path string) images.File { return images.File{Path: path, Mode: fs.ModeDir | 0o755} }
	ref := server.Push(t, "layers:v1", images.Build(t, images.Spec{Layers: [][]images.File{
		{
			dir("l"), dir("l/gone-dir"), dir("l/becomes-file"),
			{Path: "l/gone", Mode: 0o644}, {Path: "l/gone-dir/x", Mode: 0o644}, {Path: "l/becomes-file/x", Mode: 0o644},
			{Path: "l/kept", Mode: 0o644, Content: []byte("1")},
		},
		{images.Whiteout("l/gone"), images.Whiteout("l/gone-dir"), images.Whiteout("l/becomes-file")},
		{
			{Path: "l/becomes-file", Mode: 0o644, Content: []byte("2")},
			{Path: "l/hard-a", Mode: 0o644, Content: []byte("2")}, {Path: "l/hard-b", Mode: 0o644, HardLink: "l/hard-a"},
			{Path: "l/sym", Mode: fs.ModeSymlink | 0o777, Target: "kept"},
			{Path: "l/dangling", Mode: fs.ModeSymlink | 0o777, Target: "/nowhere"},
			{Path: "l/space and ünïcode", Mode: 0o644, Content: []byte("x")},
			{Path: "l/setgid", Mode: fs.ModeDir | fs.ModeSetgid | 0o755}, {Path: "l/no-mode"},
			{Path: "l/setuid", Mode: fs.ModeSetuid | 0o755}, {Path: "l/owned", Mode: 0o640, UID: 65534, GID: 1234},
			{Path: "l/capable", Mode: 0o755, Xattrs: map[string]string{"security.capability": capability}},
			dir("C:"), dir(":colon"), {Path: "C:/weird", Mode: 0o644, Content: []byte("x")}, {Path: ":colon/file", Mode: 0o644, Content: []byte("x")},
		},
	}}))
	n := newNode(t, server)
	pulled := n.pull(t, ref)
	n.expectFiles(t, pulled.ImageID, map[string]string{
		"l/kept": "1", "l/sym": "1", "l/becomes-file": "2", "l/hard-b": "2", "l/space and ünïcode": "x", "C:/weird": "x", ":colon/file": "x", "l/no-mode": "",
	})
	n.inRootfs(t, pulled.ImageID, func(root string) {
		for _, gone := range []string{"l/gone", "l/gone-dir"} {
			if _, err := os.Lstat(filepath.Join(root, gone)); !os.IsNotExist(err) {
				t.Errorf("%s is there: %v", gone, err)
			}
		}
		if target, err := os.Readlink(filepath.Join(root, "l/dangling")); target != "/nowhere" {
			t.Errorf("the dangling link leads to %q, %v", target, err)
		}
		for path, want := range map[string]uint32{
			"l/setgid": unix.S_IFDIR | unix.S_ISGID | 0o755, "l/no-mode": unix.S_IFREG, "l/setuid": unix.S_IFREG | unix.S_ISUID | 0o755, "l/owned": unix.S_IFREG | 0o640,
		} {
			var stat unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, path), &stat); err != nil || stat.Mode != want {
				t.Errorf("%s has mode %o, %v; want %o", path, stat.Mode, err, want)
			}
			if path == "l/owned" && (stat.Uid != 65534 || stat.Gid != 1234) {
				t.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
			}
		}
		var a, b unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, "l/hard-a"), &a); err != nil {
			t.Error(err)
		}
		if err := unix.Lstat(filepath.Join(root, "l/hard-b"), &b); err != nil || a.Ino != b.Ino || a.Nlink != 2 {
			t.Errorf("the hard link is a file of its own: %v", err)
		}
		value := make([]byte, 64)
		size, err := unix.Getxattr(filepath.Join(root, "l/capable"), "security.capability", value)
		if err != nil || string(value[:size]) != capability {
			t.Errorf("the file capability is %x, %v", value[:max(size, 0)], err)
		}
	})
}

func TestConfigurationsAreKept(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	for i, config := range []v1.Config{
		{User: "1002"}, {User: "www-data"}, {User: "1003:1004"}, {User: "www-data:1004"}, {User: "no-such-user"},
		{Volumes: map[string]struct{}{"/data": {}, "C:/weird": {}, "/:colon": {}}},
		{
			Labels: map[string]string{"lab.test/one": "1", "lab.test/empty": ""}, WorkingDir: "/work/dir", StopSignal: "SIGUSR1",
			Env: []string{"LAB=yes", "EMPTY="}, ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		},
		{Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo $0", "two words"}},
	} {
		image := images.Build(t, images.Spec{Config: config, Layers: [][]images.File{{{Path: "f", Mode: 0o644, Content: []byte(fmt.Sprint(i))}}}})
		pulled := n.pull(t, server.Push(t, fmt.Sprintf("config:v%d", i), image))
		stored, err := n.store.Images.Resolve(context.Background(), pulled.ImageID)
		if err != nil {
			t.Fatal(err)
		}
		got := stored.Config.Config
		same := got.User == config.User && got.WorkingDir == config.WorkingDir && got.StopSignal == config.StopSignal &&
			reflect.DeepEqual(got.Labels, config.Labels) && reflect.DeepEqual(got.Volumes, config.Volumes) &&
			reflect.DeepEqual(got.ExposedPorts, config.ExposedPorts) && slices.Equal(got.Env, config.Env) &&
			slices.Equal(got.Entrypoint, config.Entrypoint) && slices.Equal(got.Cmd, config.Cmd)
		if !same {
			t.Errorf("the configuration is %+v, want %+v", got, config)
		}
	}
}

func TestManyAndLargeLayers(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	var texts []string
	files := map[string]string{}
	for i := range 40 {
		texts = append(texts, fmt.Sprint(i))
		files[fmt.Sprintf("file%d", i)] = fmt.Sprint(i)
	}
	large := string(incompressible(16 << 20))
	n := newNode(t, server)
	n.expectFiles(t, n.pull(t, server.Push(t, "many:v1", small(t, images.Here(), texts...))).ImageID, files)
	n.expectFiles(t, n.pull(t, server.Push(t, "large:v1", small(t, images.Here(), large))).ImageID, map[string]string{"file0": large})
}
