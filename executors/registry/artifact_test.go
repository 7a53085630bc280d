package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/stele-runtime/stele/test/images"
)

const thing = "application/vnd.lab.test.thing"

// pushArtifact puts an artifact with files into a registry: pairs of title and
// content.
func pushArtifact(t *testing.T, server *images.Server, name string, files ...[2]string) string {
	t.Helper()
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), thing)
	for _, file := range files {
		var annotations map[string]string
		if file[0] != "" {
			annotations = map[string]string{"org.opencontainers.image.title": file[0]}
		}
		var err error
		artifact, err = mutate.Append(artifact, mutate.Addendum{Layer: static.NewLayer([]byte(file[1]), "text/plain"), Annotations: annotations})
		if err != nil {
			t.Fatal(err)
		}
	}
	return server.Push(t, name, artifact)
}

func (n *node) expectNoArtifacts(t *testing.T) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(n.root, "images", artifactsDir, "*")); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
	n.expectNothingLeft(t)
}

// unused allows every removal.
func unused(Artifact) error { return nil }

func (n *node) removeArtifact(t *testing.T, ref string) {
	t.Helper()
	if err := n.puller.RemoveArtifact(context.Background(), ref, unused); err != nil {
		t.Fatal(err)
	}
}

func TestArtifact(t *testing.T) {
	server := images.Registry(t)
	ref := pushArtifact(t, server, "model:v1", [2]string{"dir/b.txt", "bee"}, [2]string{"a.txt", "ay"}, [2]string{"", "nameless"})
	proxy := images.Front(t, server)
	ref = strings.Replace(ref, server.Host, proxy.Host, 1)
	n := newNode(t, &proxy.Server)

	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrArtifact)
	n.expectNoArtifacts(t)

	pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Artifacts: true})
	if err != nil || pulled.Artifact == nil || pulled.Digest != pulled.Artifact.Digest || pulled.Name != ref {
		t.Fatalf("pulled %+v, %v", pulled, err)
	}
	n.expectNothingLeft(t)
	n.removeArtifact(t, pulled.Digest)

	fetched := 0
	for try := range 2 {
		artifact, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		if artifact.Type != thing || len(artifact.Files) != 3 || artifact.Names[0] != ref {
			t.Errorf("artifact is %+v", artifact)
		}
		for _, file := range artifact.Files {
			want := map[string]string{"a.txt": "ay", "dir/b.txt": "bee"}[file.Name]
			if want == "" {
				want = "nameless"
			}
			path := filepath.Join(artifact.Path, file.Name)
			if content, err := os.ReadFile(path); err != nil || string(content) != want || file.Size != int64(len(want)) {
				t.Errorf("%+v has %q, %v", file, content, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o444 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
		}
		if now := proxy.Gets("/blobs/"); try == 0 {
			fetched = now
		} else if now != fetched {
			t.Errorf("%d files were fetched again", now-fetched)
		}
		listed, err := n.puller.Artifacts()
		if err != nil || len(listed) != 1 || listed[0].Digest != artifact.Digest || listed[0].Path != artifact.Path {
			t.Errorf("listed %+v, %v", listed, err)
		}
	}
	listed, _ := n.puller.Artifacts()
	n.removeArtifact(t, listed[0].Digest)
	n.expectNoArtifacts(t)
	for ref, want := range map[string]error{listed[0].Digest: ErrNotFound, "../../x": ErrInvalidReference} {
		err := n.puller.RemoveArtifact(context.Background(), ref, unused)
		if !errors.Is(err, want) {
			t.Errorf("removal of %s: %v, want %v", ref, err, want)
		}
	}
}

func TestHostileArtifacts(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	outside := filepath.Join(t.TempDir(), "outside")
	for name, files := range map[string][][2]string{
		"upwards":   {{strings.Repeat("../", 30) + outside[1:], "x"}},
		"absolute":  {{outside, "x"}},
		"twice":     {{"a", "x"}, {"a", "y"}},
		"unclean":   {{"a/../b", "x"}},
		"directory": {{"a", "x"}, {"a/b", "y"}},
	} {
		ref := pushArtifact(t, server, name+":v1", files...)
		if _, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref}); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Errorf("%s: a file outside was written", name)
		}
		n.expectNoArtifacts(t)
	}
	image := server.Push(t, "image:v1", small(t, images.Here(), "content"))
	_, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: image})
	expectKind(t, err, ErrInvalidImage)

	ref := pushArtifact(t, server, "good:v1", [2]string{"a", "content"})
	for _, content := range []string{"another", "longer content", "x"} {
		server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/blobs/") {
				fmt.Fprint(w, content)
				return true
			}
			return false
		})
		_, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref})
		expectKind(t, err, ErrInvalidImage)
		n.expectNoArtifacts(t)
	}
	server.Intercept(nil)
	if _, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref}); err != nil {
		t.Error(err)
	}
}

func TestArtifactsNeedThePolicy(t *testing.T) {
	server := images.Registry(t)
	ref := pushArtifact(t, server, "model:v1", [2]string{"a", "content"})
	policy := filepath.Join(t.TempDir(), "policy.json")
	write(t, policy, `{"default": [{"type": "reject"}]}`)
	n := newNode(t, server, func(o *nodeOptions) { o.PolicyPath = policy })
	_, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref})
	expectKind(t, err, ErrPolicy)
	if !strings.Contains(fmt.Sprint(err), "requirement 1 of 1, reject") {
		t.Errorf("error is %v", err)
	}
	n.expectNoArtifacts(t)
}

func TestStalledArtifactIsEnded(t *testing.T) {
	server := images.Registry(t)
	pushArtifact(t, server, "model:v1", [2]string{"a", strings.Repeat("content", 100)})
	for _, part := range []string{"/manifests/", "/blobs/"} {
		proxy := images.Front(t, server)
		proxy.Spoil(func(r *http.Request) images.Fault {
			return images.Fault{Hang: strings.Contains(r.URL.Path, part), After: 10}
		})
		n := newNode(t, &proxy.Server, with(func(o *Options) { o.StallTimeout = 100 * time.Millisecond }))
		_, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: proxy.Host + "/model:v1"})
		expectKind(t, err, ErrStalled)
		n.expectNoArtifacts(t)
		proxy.Spoil(nil)
		n.puller.options.StallTimeout = time.Hour // a busy machine is no hanging registry
		if _, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: proxy.Host + "/model:v1"}); err != nil {
			t.Error(err)
		}
	}
}
