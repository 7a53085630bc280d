package registry

import (
	"context"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/test/images"
)

func TestPullFormats(t *testing.T) {
	server := images.Registry(t)
	here, elsewhere := images.Here(), images.Elsewhere()
	for name, format := range map[string]images.Format{"oci": images.OCI, "docker": images.Docker} {
		build := func(platform v1.Platform) v1.Image {
			return images.Build(t, images.Spec{Format: format, Platform: platform, Layers: [][]images.File{
				{{Path: "platform", Mode: 0o644, Content: []byte(platform.Architecture)}},
			}})
		}
		own, foreign := build(here), build(elsewhere)
		index := images.Index(t, format, foreign, own)
		single := server.Push(t, name+"/app:v1", own)
		multi := server.PushIndex(t, name+"/multi:v1", index)
		config, _ := own.ConfigName()
		manifest, _ := own.Digest()
		list, _ := index.Digest()

		for _, test := range []struct{ name, ref, digest string }{
			{"tag", single, manifest.String()},
			{"digest", server.Host + "/" + name + "/app@" + manifest.String(), manifest.String()},
			{"tag and digest", single + "@" + manifest.String(), manifest.String()},
			{"index by tag", multi, list.String()},
			{"index by digest", server.Host + "/" + name + "/multi@" + list.String(), list.String()},
		} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				n := newNode(t, server)
				pulled := n.pull(t, test.ref)
				if pulled.ImageID != config.Hex || pulled.Ref != config.Hex {
					t.Errorf("image is %s, reference %s, want %s", pulled.ImageID, pulled.Ref, config.Hex)
				}
				if pulled.Digest != test.digest {
					t.Errorf("digest is %s, want %s", pulled.Digest, test.digest)
				}
				if pulled.Bytes == 0 {
					t.Error("no bytes were fetched")
				}
				image, err := n.store.Images.Resolve(context.Background(), test.ref)
				if err != nil || image.ID != config.Hex {
					t.Errorf("the name stands for %q, %v", image.ID, err)
				}
				repository := pulled.Name[:strings.LastIndexAny(pulled.Name, ":@")]
				repository, _, _ = strings.Cut(repository, "@")
				if want := repository + "@" + test.digest; !slices.Contains(image.Digests, want) {
					t.Errorf("digests are %q, want %q among them", image.Digests, want)
				}
				if left := n.temporary(t); len(left) > 0 {
					t.Errorf("temporary files are left: %q", left)
				}
			})
		}
	}
}

func TestPulledImageCanBeRun(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "busybox:1", images.Busybox(t, v1.Config{User: "app"}))
	n := newNode(t, server)
	pulled := n.pull(t, ref)
	container := strings.Repeat("c0", 32)
	rootfs, err := n.store.Rootfses.Prepare(context.Background(), storage.RootfsRequest{ContainerID: container, ImageID: pulled.ImageID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.store.Rootfses.Release(context.Background(), container); err != nil {
			t.Error(err)
		}
	}()
	if target, err := os.Readlink(filepath.Join(rootfs.Mountpoint, "bin/sh")); err != nil || target != "busybox" {
		t.Errorf("/bin/sh points to %q, %v", target, err)
	}
	info, err := os.Stat(filepath.Join(rootfs.Mountpoint, "tmp"))
	if err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("/tmp has mode %v, %v", info.Mode(), err)
	}
	if rootfs.Config.Config.User != "app" {
		t.Errorf("user is %q", rootfs.Config.Config.User)
	}
}

func TestPullTwiceFetchesLayersOnce(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "one", "two"))
	n := newNode(t, server)
	first := n.pull(t, ref)
	var reported []Event
	second, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Progress: func(e Event) { reported = append(reported, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if second.ImageID != first.ImageID {
		t.Errorf("image is %s, was %s", second.ImageID, first.ImageID)
	}
	if second.Bytes >= first.Bytes {
		t.Errorf("fetched %d bytes, the first time %d", second.Bytes, first.Bytes)
	}
	present := 0
	for _, news := range reported {
		if done, ok := news.(LayerDone); ok && done.Present {
			present++
		}
	}
	if present != 2 {
		t.Errorf("%d layers were reported as present, want 2: %+v", present, reported)
	}
}

func TestConcurrentPulls(t *testing.T) {
	server := images.Registry(t)
	var refs []string
	for i := range 4 {
		refs = append(refs, server.Push(t, fmt.Sprintf("app:v%d", i), small(t, images.Here(), "shared", fmt.Sprint("own ", i))))
	}
	n := newNode(t, server)
	var pulls sync.WaitGroup
	for _, ref := range append(refs, refs...) {
		pulls.Go(func() {
			if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref}); err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	listed, err := n.store.Images.List(context.Background())
	if err != nil || len(listed) != len(refs) {
		t.Errorf("%d images, %v; want %d", len(listed), err, len(refs))
	}
	if left := n.temporary(t); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func TestCancelledPullLeavesNothingAndTheNextWorks(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "one", "two"))
	n := newNode(t, server)
	ctx, cancel := context.WithCancel(context.Background())
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if ctx.Err() == nil && strings.Contains(r.Header.Get("Accept"), "config") {
			return false
		}
		cancel() // in the middle: the manifest has been read, a blob is being waited for
		<-r.Context().Done()
		return true
	})
	_, err := n.puller.Pull(ctx, PullRequest{Ref: ref})
	expectKind(t, err, context.Canceled)
	n.expectNoImages(t)
	server.Intercept(nil)
	n.pull(t, ref)
}

func TestKillDuringPull(t *testing.T) {
	server := images.Registry(t)
	source := rand.New(rand.NewSource(2))
	var layers []string
	for range 2 {
		content := make([]byte, 512<<10)
		source.Read(content)
		layers = append(layers, string(content))
	}
	ref := server.Push(t, "app:v1", small(t, images.Here(), layers...))
	n := newNode(t, server)
	n.store.Close()
	options := nodeOptions{Root: n.root, RegistriesConf: server.RegistriesConf, RegistriesConfDir: server.RegistriesConfDir}
	for range 6 {
		kill := startChild(t, childJob{Options: options, Ref: ref})
		time.Sleep(time.Duration(source.Intn(150_000)) * time.Microsecond)
		kill()
		n, err := openNode(options)
		if err != nil {
			t.Fatal(err)
		}
		if left := n.temporary(t); len(left) > 0 {
			t.Errorf("temporary files are left: %q", left)
		}
		pulled := n.pull(t, ref)
		if err := n.store.Images.Remove(context.Background(), pulled.ImageID); err != nil {
			t.Error(err)
		}
		if _, err := n.store.Images.CollectOrphans(context.Background(), 0); err != nil {
			t.Error(err)
		}
		for _, directory := range []string{"l", "tempdirs", "staging"} {
			if left, _ := filepath.Glob(filepath.Join(n.root, "storage/overlay", directory, "*")); len(left) > 0 {
				t.Errorf("files are left: %q", left)
			}
		}
		n.store.Close()
	}
}

func TestProgressTellsWhatIsFetched(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("one", 1000), "two", "two")
	index := images.Index(t, images.OCI, small(t, images.Elsewhere(), "other"), image)
	ref := server.PushIndex(t, "app:v1", index)
	n := newNode(t, server)
	var resolved []Resolved
	done := map[string]int64{}
	pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Progress: func(e Event) {
		switch e := e.(type) {
		case Resolved:
			resolved = append(resolved, e)
		case LayerDone:
			if _, twice := done[e.Digest]; twice || e.Present {
				t.Errorf("unexpected %+v", e)
			}
			done[e.Digest] = e.Bytes
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	top, _ := index.Digest()
	own, _ := image.Digest()
	layers, _ := image.Layers()
	want := Resolved{Name: ref, Digest: top.String(), Manifest: own.String(), Layers: len(layers)}
	fetched := int64(0)
	for _, layer := range layers {
		digest, _ := layer.Digest()
		size, _ := layer.Size()
		want.Bytes += size
		if done[digest.String()] != size {
			t.Errorf("of layer %s %d bytes were reported, it has %d", digest, done[digest.String()], size)
		}
	}
	for _, bytes := range done {
		fetched += bytes
	}
	if len(resolved) != 1 || resolved[0] != want {
		t.Errorf("resolved %+v, want %+v", resolved, want)
	}
	raw, _ := image.RawConfigFile()
	if want := uint64(fetched + int64(len(raw))); pulled.Bytes != want {
		t.Errorf("%d bytes in all, layers and configuration have %d", pulled.Bytes, want)
	}
}
