package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	imagetypes "go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// layerPaths returns the parts of the URLs of an image's layers.
func layerPaths(t *testing.T, image v1.Image) []string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, "/blobs/"+digest.String())
	}
	return paths
}

// incompressible returns so many bytes, always the same.
func incompressible(size int) []byte {
	content := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(content)
	return content
}

// expectNothingLeft checks that a failed pull left neither images nor files.
func (n *node) expectNothingLeft(t *testing.T) {
	t.Helper()
	n.expectNoImages(t)
	for _, directory := range []string{"tempdirs", "staging"} {
		if left, _ := filepath.Glob(filepath.Join(n.root, "storage/overlay", directory, "*")); len(left) > 0 {
			t.Errorf("files are left in the store: %q", left)
		}
	}
}

func TestPassingFaultsAreSurvived(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000), "two")
	ref := "app:v1"
	server.Push(t, ref, image)
	layer := layerPaths(t, image)[0]
	at := func(part string, fault images.Fault) func(r *http.Request) images.Fault {
		times := 0
		return func(r *http.Request) images.Fault {
			if !strings.Contains(r.URL.Path, part) {
				return images.Fault{}
			}
			if times++; times > 1 {
				return images.Fault{}
			}
			return fault
		}
	}
	for _, test := range []struct {
		name, part string
		fault      images.Fault
	}{
		{"500 for the manifest", "/manifests/", images.Fault{Status: 500, Body: "oh"}},
		{"503 for a layer", layer, images.Fault{Status: 503}},
		{"429 for a layer", layer, images.Fault{Status: 429, Header: http.Header{"Retry-After": {"0"}}}},
		{"manifest cut", "/manifests/", images.Fault{Cut: true, After: 5}},
		{"layer cut before its first byte", layer, images.Fault{Cut: true}},
		{"layer cut in the middle", layer, images.Fault{Cut: true, After: 40}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			proxy := images.Front(t, server)
			proxy.Spoil(at(test.part, test.fault))
			n := newNode(t, &proxy.Server)
			n.pull(t, proxy.Host+"/"+ref)
			if left := n.temporary(t); len(left) > 0 {
				t.Errorf("temporary files are left: %q", left)
			}
		})
	}
}

func TestLastingFaults(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000), "two")
	server.Push(t, "app:v1", image)
	layer := layerPaths(t, image)[0]
	for _, test := range []struct {
		name, part string
		fault      images.Fault
		want       error
		tries      int // GETs of the part
	}{
		{"500 for the manifest", "/manifests/", images.Fault{Status: 500, Body: "oh"}, ErrUnavailable, 1 + DefaultRetries},
		{"502 for a layer", layer, images.Fault{Status: 502}, ErrUnavailable, 1 + DefaultRetries},
		{"404 for a layer", layer, images.Fault{Status: 404}, ErrNotFound, 1},
		{"429 for a layer", layer, images.Fault{Status: 429, Header: http.Header{"Retry-After": {"0"}}}, ErrRateLimited, 5},
		{"wrong layer", layer, images.Fault{Replace: []byte("this is not the layer")}, ErrInvalidImage, 1},
		{"empty layer", layer, images.Fault{Replace: []byte{}}, ErrInvalidImage, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			proxy := images.Front(t, server)
			proxy.Spoil(func(r *http.Request) images.Fault {
				if strings.Contains(r.URL.Path, test.part) {
					return test.fault
				}
				return images.Fault{}
			})
			n := newNode(t, &proxy.Server)
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: proxy.Host + "/app:v1"})
			expectKind(t, err, test.want)
			if got := proxy.Gets(test.part); got != test.tries {
				t.Errorf("the registry was asked %d times, want %d: %v", got, test.tries, err)
			}
			n.expectNothingLeft(t)
			proxy.Spoil(nil)
			n.pull(t, proxy.Host+"/app:v1")
		})
	}
}

func TestTruncatedLayer(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000))
	server.Push(t, "app:v1", image)
	layer := layerPaths(t, image)[0]
	proxy := images.Front(t, server)
	proxy.Spoil(func(r *http.Request) images.Fault {
		return images.Fault{Cut: strings.Contains(r.URL.Path, layer), After: 40}
	})
	n := newNode(t, &proxy.Server, with(func(o *Options) { o.Retries = -1 }))
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: proxy.Host + "/app:v1"})
	expectKind(t, err, ErrUnavailable)
	// The library itself asks for the rest once.
	if got := proxy.Gets(layer); got != 2 {
		t.Errorf("the layer was asked for %d times without retries", got)
	}
	n.expectNothingLeft(t)
	proxy.Spoil(nil)
	n.pull(t, proxy.Host+"/app:v1")
}

func TestStalledPullIsEnded(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000))
	server.Push(t, "app:v1", image)
	for _, part := range []string{"/manifests/", layerPaths(t, image)[0]} {
		t.Run(part[:7], func(t *testing.T) {
			t.Parallel()
			proxy := images.Front(t, server)
			proxy.Spoil(func(r *http.Request) images.Fault {
				return images.Fault{Hang: strings.Contains(r.URL.Path, part), After: 30}
			})
			n := newNode(t, &proxy.Server, with(func(o *Options) { o.StallTimeout = 100 * time.Millisecond }))
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: proxy.Host + "/app:v1"})
			expectKind(t, err, ErrStalled)
			n.expectNothingLeft(t)
			proxy.Spoil(nil)
			n.puller.options.StallTimeout = time.Hour // a busy machine is no hanging registry
			n.pull(t, proxy.Host+"/app:v1")
		})
	}
}

func TestSlowPullIsNotStalled(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	image := small(t, images.Here(), string(incompressible(200<<10)))
	server.Push(t, "app:v1", image)
	proxy := images.Front(t, server)
	proxy.Spoil(func(*http.Request) images.Fault { return images.Fault{Drip: 20 * time.Millisecond} })
	const patience = 3 * time.Second // a hundred pauses: a busy machine's are longer
	n := newNode(t, &proxy.Server, with(func(o *Options) { o.StallTimeout = patience }))
	begun := time.Now()
	n.pull(t, proxy.Host+"/app:v1")
	if took := time.Since(begun); took < patience {
		t.Fatalf("the pull took only %v: this test shows nothing", took)
	}
}

// The store's time is not the registry's.
func TestUnpackingIsNoStall(t *testing.T) {
	seen := parts{}
	if !seen.awaited() {
		t.Error("at the start nothing is awaited")
	}
	for _, step := range []struct {
		kind    imagetypes.ProgressEvent
		offset  uint64
		awaited bool
	}{
		{imagetypes.ProgressEventNewArtifact, 0, true},
		{imagetypes.ProgressEventRead, 60, true},
		{imagetypes.ProgressEventRead, 100, false},
		{imagetypes.ProgressEventDone, 100, false},
	} {
		seen.take(imagetypes.ProgressProperties{
			Event: step.kind, Offset: step.offset, Artifact: imagetypes.BlobInfo{Digest: "sha256:a", Size: 100},
		})
		if seen.awaited() != step.awaited {
			t.Errorf("after %+v awaited is %t", step, !step.awaited)
		}
	}
	seen.take(imagetypes.ProgressProperties{Artifact: imagetypes.BlobInfo{Digest: "sha256:b", Size: -1}})
	if !seen.awaited() {
		t.Error("a second part isn't awaited")
	}
}

// A retry, within a pull or in the next, fetches no complete layer again, although a lower
// one failed.
func TestRetryReusesWholeLayers(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "one", "two", strings.Repeat("three", 1000), "four", "five")
	server.Push(t, "app:v1", image)
	paths := layerPaths(t, image)
	for _, retries := range []int{-1, 1} {
		for broken := range paths {
			t.Run(fmt.Sprintf("%d with %d", broken, retries), func(t *testing.T) {
				t.Parallel()
				proxy := images.Front(t, server)
				tries := 0
				proxy.Spoil(func(r *http.Request) images.Fault {
					if !strings.Contains(r.URL.Path, paths[broken]) {
						return images.Fault{}
					}
					switch tries++; tries {
					case 1:
						return images.Fault{Hang: true, After: 40}
					case 2: // the library asks for the rest
						return images.Fault{Status: http.StatusBadGateway}
					}
					return images.Fault{}
				})
				n := newNode(t, &proxy.Server, with(func(o *Options) { o.Retries = retries }))
				others := make(chan struct{})
				reported := map[string]bool{}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				go func() {
					<-others
					proxy.BreakOff()
				}()
				_, err := n.puller.Pull(ctx, PullRequest{Ref: proxy.Host + "/app:v1", Progress: func(e Event) {
					if done, ok := e.(LayerDone); ok {
						if reported[done.Digest] {
							t.Errorf("%s is reported as done twice", done.Digest)
						}
						reported[done.Digest] = true
						if len(reported) == len(paths)-1 {
							close(others)
						}
					}
				}})
				if retries < 0 {
					expectKind(t, err, ErrUnavailable)
					n.expectNothingLeft(t)
					n.pull(t, proxy.Host+"/app:v1")
				} else if err != nil {
					t.Fatal(err)
				}
				for i, path := range paths {
					want := 1
					if i == broken {
						want = 3
					}
					if got := proxy.Gets(path); got != want {
						t.Errorf("layer %d was asked for %d times, want %d", i, got, want)
					}
				}
				if left, _ := filepath.Glob(filepath.Join(n.root, "images", tempDir, keptDir, "*")); len(left) > 0 {
					t.Errorf("layers are still kept: %q", left)
				}
			})
		}
	}
}

// A daemon that is killed in the middle of a pull leaves its complete layers in the store
// for the next one's pull.
func TestPullAfterKillReusesLayers(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "one", "two", "three", "four", strings.Repeat("five", 1000))
	server.Push(t, "app:v1", image)
	paths := layerPaths(t, image)
	last := len(paths) - 1
	proxy := images.Front(t, server)
	proxy.Spoil(func(r *http.Request) images.Fault {
		return images.Fault{Hang: strings.Contains(r.URL.Path, paths[last]), After: 40}
	})
	n := newNode(t, &proxy.Server)
	n.store.Close()
	options := nodeOptions{Root: n.root, RegistriesConf: proxy.RegistriesConf, RegistriesConfDir: proxy.RegistriesConfDir}
	kill := startChild(t, childJob{Options: options, Ref: proxy.Host + "/app:v1"})
	for deadline := time.Now().Add(time.Minute); n.wholeLayers(t) < last; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the layers don't get into the store")
		}
	}
	kill()
	proxy.Spoil(nil)
	n, err := openNode(options)
	if err != nil {
		t.Fatal(err)
	}
	defer n.store.Close()
	n.expectNothingLeft(t)
	n.pull(t, proxy.Host+"/app:v1")
	for i, path := range paths {
		want := 1
		if i == last {
			want = 2
		}
		if got := proxy.Gets(path); got != want {
			t.Errorf("layer %d was asked for %d times, want %d", i, got, want)
		}
	}
}

// wholeLayers counts the layers in the store's index, also while another process
// writes it.
func (n *node) wholeLayers(t *testing.T) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(n.root, "storage/overlay-layers/layers.json"))
	if err != nil {
		return 0
	}
	var layers []struct {
		Flags map[string]any `json:"flags"`
	}
	if err := json.Unmarshal(content, &layers); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, layer := range layers {
		if layer.Flags["incomplete"] == nil {
			whole++
		}
	}
	return whole
}

func TestLayersAreFetchedInParallel(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "one", "two", "three", "four")
	server.Push(t, "app:v1", image)
	paths := layerPaths(t, image)
	for _, limit := range []uint{1, 2, 4} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			var now, most atomic.Int64
			server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				for _, path := range paths {
					if strings.Contains(r.URL.Path, path) {
						count := now.Add(1)
						defer now.Add(-1)
						for old := most.Load(); count > old && !most.CompareAndSwap(old, count); old = most.Load() {
						}
						// Until as many have come as may, and then for one too many.
						for deadline := time.Now().Add(time.Minute); most.Load() < int64(limit) && time.Now().Before(deadline); {
							time.Sleep(time.Millisecond)
						}
						time.Sleep(100 * time.Millisecond)
					}
				}
				return false
			})
			defer server.Intercept(nil)
			n := newNode(t, server, with(func(o *Options) { o.MaxParallelLayers = limit }))
			n.pull(t, server.Host+"/app:v1")
			if most.Load() != int64(limit) {
				t.Errorf("%d layers were fetched at a time, want %d", most.Load(), limit)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "small", string(incompressible(6<<20))))
	fits := server.Push(t, "small:v1", small(t, images.Here(), "other"))
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=5m"); err != nil {
		t.Fatalf("mount a small tmpfs (this test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	n := newNode(t, server, func(o *nodeOptions) { o.Root = filepath.Join(root, "node") })
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error is %v", err)
	}
	n.expectNothingLeft(t)
	n.pull(t, fits)
}

func TestHostileLayersStayInside(t *testing.T) {
	server := images.Registry(t)
	outside := filepath.Join(t.TempDir(), "outside")
	up := strings.Repeat("../", 30)
	for name, files := range map[string][]images.File{
		"parent":             {{Path: up + outside[1:], Mode: 0o644, Content: []byte("x")}},
		"absolute":           {{Path: outside, Mode: 0o644, Content: []byte("x")}},
		"link and write":     {{Path: "out", Mode: fs.ModeSymlink | 0o777, Target: filepath.Dir(outside)}, {Path: "out/" + filepath.Base(outside), Mode: 0o644, Content: []byte("x")}},
		"relative link":      {{Path: "out", Mode: fs.ModeSymlink | 0o777, Target: up + filepath.Dir(outside)[1:]}, {Path: "out/" + filepath.Base(outside), Mode: 0o644, Content: []byte("x")}},
		"whiteout of parent": {{Path: up + filepath.Dir(outside)[1:] + "/.wh.kept", Mode: 0o644}},
		"device":             {{Path: "disk", Mode: fs.ModeDevice | 0o666}},
	} {
		t.Run(name, func(t *testing.T) {
			kept := filepath.Join(filepath.Dir(outside), "kept")
			if err := os.WriteFile(kept, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			ref := server.Push(t, strings.ReplaceAll(name, " ", "-")+":v1", images.Build(t, images.Spec{Layers: [][]images.File{files}}))
			n := newNode(t, server)
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
			if err != nil {
				n.expectNothingLeft(t)
			}
			if _, err := os.Lstat(outside); err == nil {
				t.Errorf("a file outside was written")
				os.Remove(outside)
			}
			if _, err := os.Lstat(kept); err != nil {
				t.Errorf("a file outside was removed: %v", err)
			}
			n.pull(t, server.Push(t, "good:v1", small(t, images.Here(), "good")))
		})
	}
}
