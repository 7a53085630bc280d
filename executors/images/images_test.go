package images

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
	registries "github.com/stele-runtime/stele/test/images"
)

func TestMain(m *testing.M) {
	// Layers are unpacked in a copy of the test program.
	if storage.Reexec() {
		return
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // or each copy sleeps for a second
	os.Exit(m.Run())
}

// open returns the images of a node that knows a registry.
func open(t *testing.T, server *registries.Server, pinned ...string) Images {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("images are unpacked and mounted by root only")
	}
	root, err := os.MkdirTemp("", "stele-images-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	dir := filepath.Join(root, "images")
	store, err := storage.Open(storage.Options{
		GraphRoot: filepath.Join(root, "storage"), RunRoot: filepath.Join(root, "run"), Pinned: pinned, Logger: quiet,
		ShortNames: registry.ShortNames(server.RegistriesConf, server.RegistriesConfDir, dir),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	policies := filepath.Join(root, "policies")
	if err := os.Mkdir(policies, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(policies, "strict.json"), []byte(`{"default": [{"type": "reject"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	puller, err := registry.New(registry.Options{
		Store: store.Images, Dir: dir, PolicyDir: policies, RegistriesConf: server.RegistriesConf, RegistriesConfDir: server.RegistriesConfDir,
		AuthFile: filepath.Join(root, "auth.json"), Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	return Images{Store: store, Registry: puller}
}

func pull(t *testing.T, i Images, ref string) {
	t.Helper()
	if _, err := i.Registry.Pull(context.Background(), registry.PullRequest{Ref: ref, Artifacts: true}); err != nil {
		t.Fatal(err)
	}
}

// pushArtifact puts an artifact of one file into a registry.
func pushArtifact(t *testing.T, server *registries.Server, name, content string) string {
	t.Helper()
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.lab.test.thing")
	artifact, err := mutate.Append(artifact, mutate.Addendum{
		Layer:       static.NewLayer([]byte(content), "text/plain"),
		Annotations: map[string]string{"org.opencontainers.image.title": "file"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return server.Push(t, name, artifact)
}

func TestArtifactsAreListedAmongImages(t *testing.T) {
	ctx := context.Background()
	server := registries.Registry(t)
	x := open(t, server, server.Host+"/model*")
	ref := pushArtifact(t, server, "model:v1", "twelve bytes")
	other := pushArtifact(t, server, "other:v1", "more")
	app := server.Push(t, "app:v1", registries.Build(t, registries.Spec{Layers: [][]registries.File{{{Path: "file", Mode: 0o644, Content: []byte("content")}}}}))
	for _, name := range []string{ref, other, app} {
		pull(t, x, name)
	}

	all, err := x.List(ctx)
	if err != nil || len(all) != 3 || all[0].Config == nil {
		t.Fatalf("listed %+v, %v; want the image first", all, err)
	}
	model, err := x.Resolve(ctx, ref)
	if err != nil || model.Size != 12 || !model.Pinned || !slices.Equal(model.Names, []string{ref}) ||
		!slices.Equal(model.Digests, []string{server.Host + "/model@sha256:" + model.ID}) {
		t.Fatalf("artifact is %+v, %v", model, err)
	}
	if uid, username := model.RunsAs(); uid != nil || username != "" {
		t.Errorf("it runs as %v, %q; want nobody", uid, username)
	}
	for _, same := range []string{model.ID, "sha256:" + model.ID, model.ID[:12], model.Digests[0]} {
		if found, err := x.Resolve(ctx, same); err != nil || found.ID != model.ID {
			t.Errorf("%s: found %q, %v", same, found.ID, err)
		}
	}
	if found, err := x.Resolve(ctx, other); err != nil || found.Pinned {
		t.Errorf("found %+v, %v; want it not pinned", found, err)
	}
	if found, err := x.Resolve(ctx, app); err != nil || found.Config == nil {
		t.Errorf("found %+v, %v; want the image", found, err)
	}
	if _, err := x.Resolve(ctx, server.Host+"/no:v1"); !errors.Is(err, storage.ErrImageNotFound) {
		t.Errorf("error is %v, want not found", err)
	}
	if _, err := x.Resolve(ctx, "Not A Name"); !errors.Is(err, storage.ErrInvalidReference) {
		t.Errorf("error is %v, want invalid reference", err)
	}
}

func TestArtifactsAreRemovedAsImagesAre(t *testing.T) {
	ctx := context.Background()
	server := registries.Registry(t)
	x := open(t, server)
	ref := pushArtifact(t, server, "model:v1", "content")
	for _, by := range []func(storage.Image) string{
		func(i storage.Image) string { return i.ID },
		func(i storage.Image) string { return i.Names[0] },
		func(i storage.Image) string { return i.Digests[0] },
	} {
		pull(t, x, ref)
		found, err := x.Resolve(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := x.Remove(ctx, by(found)); err != nil {
				t.Errorf("removal by %s: %v", by(found), err)
			}
		}
		if left, err := x.List(ctx); err != nil || len(left) > 0 {
			t.Errorf("after removal by %s there are %+v, %v", by(found), left, err)
		}
	}
}

func TestArtifactInUseStays(t *testing.T) {
	ctx := context.Background()
	server := registries.Registry(t)
	x := open(t, server)
	ref := pushArtifact(t, server, "model:v1", "content")
	pull(t, x, ref)
	artifact, err := x.Registry.ResolveArtifact(ref)
	if err != nil {
		t.Fatal(err)
	}
	user := strings.Repeat("a", 64)
	volume := storage.VolumeID(user, 0)
	if _, err := x.Store.Volumes.MountDirectory(ctx, storage.MountDirectoryRequest{ID: volume, Dir: artifact.Path}); err != nil {
		t.Fatal(err)
	}
	err = x.Remove(ctx, ref)
	if fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), user) {
		t.Errorf("removal of what is in use: %v", err)
	}
	if err := x.Store.Volumes.Unmount(ctx, volume); err != nil {
		t.Fatal(err)
	}
	if err := x.Remove(ctx, ref); err != nil {
		t.Error(err)
	}
}

func TestPermit(t *testing.T) {
	ctx := context.Background()
	server := registries.Registry(t)
	x := open(t, server)
	app := server.Push(t, "app:v1", registries.Build(t, registries.Spec{Layers: [][]registries.File{{{Path: "file", Mode: 0o644, Content: []byte("content")}}}}))
	model := pushArtifact(t, server, "model:v1", "content")
	for _, name := range []string{app, model} {
		pull(t, x, name)
		found, err := x.Resolve(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{name, found.ID} {
			if err := x.Permit(ctx, Use{Namespace: "lenient", Image: ref}); err != nil {
				t.Errorf("%s without a policy: %v", ref, err)
			}
			err := x.Permit(ctx, Use{Namespace: "strict", Image: ref, Written: name})
			if fault.KindOf(err) != fault.SignatureRefused || !strings.Contains(err.Error(), name) {
				t.Errorf("%s against the policy: %v", ref, err)
			}
		}
	}
	if err := x.Permit(ctx, Use{Namespace: "strict", Image: server.Host + "/no:v1"}); !errors.Is(err, storage.ErrImageNotFound) {
		t.Errorf("error is %v, want not found", err)
	}
}
