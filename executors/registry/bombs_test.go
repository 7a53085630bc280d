package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/stele-runtime/stele/test/images"
)

// serveManifest makes a registry answer one tag with a manifest of any kind.
func serveManifest(server *images.Server, tag string, mediaType types.MediaType, content func(w http.ResponseWriter)) {
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/"+tag) {
			return false
		}
		w.Header().Set("Content-Type", string(mediaType))
		content(w)
		return true
	})
}

func TestManifestBombs(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "content")
	server.Push(t, "app:v1", image)
	good, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manyLayers := *good
	for len(manyLayers.Layers) <= maxLayers {
		manyLayers.Layers = append(manyLayers.Layers, good.Layers[0])
	}
	nested := images.Index(t, images.OCI, image)
	server.PushIndex(t, "app:inner", nested)
	innerDigest, _ := nested.Digest()
	innerSize, _ := nested.Size()
	here := images.Here()
	outer := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{
		{MediaType: types.OCIImageIndex, Digest: innerDigest, Size: innerSize, Platform: &here},
	}}

	marshalled := func(what any) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(what) }
	}
	for _, test := range []struct {
		name      string
		mediaType types.MediaType
		content   func(http.ResponseWriter)
		text      string
	}{
		{"endless manifest", types.OCIManifestSchema1, endless, "exceeded maximum"},
		{"endless index", types.OCIImageIndex, endless, "exceeded maximum"},
		{"too many layers", types.OCIManifestSchema1, marshalled(manyLayers), "501 layers"},
		{"index in an index", types.OCIImageIndex, marshalled(outer), "another index"},
		{"no JSON", types.OCIManifestSchema1, func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, ""},
		{"empty", types.OCIManifestSchema1, func(http.ResponseWriter) {}, ""},
		{"deep JSON", types.OCIManifestSchema1, func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"schemaVersion":2,"annotations":`+strings.Repeat(`{"a":`, 500_000))
		}, ""},
		{"empty index", types.OCIImageIndex, marshalled(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}), "no platforms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, server)
			serveManifest(server, "bomb", test.mediaType, test.content)
			defer server.Intercept(nil)
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: server.Host + "/app:bomb"})
			if err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error is %v, want one about %q", err, test.text)
			}
			if !errors.Is(err, ErrInvalidImage) && !errors.Is(err, ErrUnsupportedPlatform) {
				t.Errorf("error is of another kind: %v", err)
			}
			if len(fmt.Sprint(err)) > 2*maxDetail {
				t.Errorf("the error has %d bytes", len(fmt.Sprint(err)))
			}
			n.expectNothingLeft(t)
			n.pull(t, server.Host+"/app:v1")
		})
	}
}

func endless(w http.ResponseWriter) {
	piece := []byte(strings.Repeat(" ", 1<<16))
	for {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

// A registry's error may have any length. A layer that never ends would fill the disk
// before its digest is compared.
func TestEndlessLayerIsGivenUp(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	image := small(t, images.Here(), "content")
	ref := server.Push(t, "endless:v1", image)
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) {
			return false
		}
		for chunk := make([]byte, 64<<10); ; {
			// A late end, in case nobody gives up.
			if written, err := w.Write(chunk); err != nil || sent.Add(int64(written)) > 512<<20 {
				return true
			}
		}
	})
	_, err = n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrInvalidImage)
	if !strings.Contains(fmt.Sprint(err), errTooMuchCame.Error()) || sent.Load() > 64<<20 {
		t.Errorf("after %d bytes: %v", sent.Load(), err)
	}
	n.expectNothingLeft(t)
}

func TestLongErrorsAreCut(t *testing.T) {
	server := images.Registry(t)
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{
			"code": "DENIED", "message": strings.Repeat("no ", 100_000),
		}}})
		return true
	})
	n := newNode(t, server)
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: server.Host + "/app:v1"})
	expectKind(t, err, ErrUnauthorized)
	if size := len(fmt.Sprint(err)); size > 2*maxDetail {
		t.Errorf("the error has %d bytes", size)
	}
}

func TestPlatformsOfAnIndexAreNamed(t *testing.T) {
	server := images.Registry(t)
	ref := server.PushIndex(t, "app:v1", images.Index(t, images.Docker,
		small(t, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "a"), small(t, v1.Platform{OS: "windows", Architecture: "amd64"}, "b")))
	n := newNode(t, server)
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrUnsupportedPlatform)
	if !strings.Contains(fmt.Sprint(err), "this is "+here()+", the index has linux/arm/v7, windows/amd64") {
		t.Errorf("error is %v", err)
	}
}
