package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/stele-runtime/stele/test/images"
)

// archives has one image in every form, and where possible another one beside it.
type archives struct {
	server               *images.Server
	layout, oci, docker  string
	first, second        v1.Image
	firstText, otherText string
}

func newArchives(t *testing.T) archives {
	t.Helper()
	dir := t.TempDir()
	a := archives{
		server: images.Registry(t), layout: filepath.Join(dir, "app"), oci: filepath.Join(dir, "app.oci.tar"), docker: filepath.Join(dir, "app.tar"),
		firstText: "first", otherText: "second",
	}
	a.first, a.second = small(t, images.Here(), a.firstText), small(t, images.Here(), a.otherText)
	first, second := a.server.Push(t, "app:v1", a.first), a.server.Push(t, "app:v2", a.second)
	to := func(ref imagetypes.ImageReference, err error) imagetypes.ImageReference {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	as := func(*copy.Options) {}
	convert(t, a.server, first, to(layout.NewReference(a.layout, "v1")), as)
	convert(t, a.server, second, to(layout.NewReference(a.layout, "lab.test/app:v2")), as)
	convert(t, a.server, first, to(ociarchive.NewReference(a.oci, "lab.test/app:v1")), as)
	writer, err := dockerarchive.NewWriter(&imagetypes.SystemContext{BigFilesTemporaryDir: t.TempDir()}, a.docker)
	if err != nil {
		t.Fatal(err)
	}
	tag := func(name string) reference.NamedTagged {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		return named.(reference.NamedTagged)
	}
	convert(t, a.server, first, to(writer.NewReference(tag("lab.test/app:v1"))), func(o *copy.Options) {
		system := *o.DestinationCtx
		system.DockerArchiveAdditionalTags = []reference.NamedTagged{tag("busybox:1")}
		o.DestinationCtx = &system
	})
	convert(t, a.server, second, to(writer.NewReference(tag("lab.test/app:v2"))), as)
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLoad(t *testing.T) {
	a := newArchives(t)
	firstID, _ := a.first.ConfigName()
	for _, test := range []struct {
		name    string
		request LoadRequest
		names   []string // nil: ErrInvalidReference
	}{
		{"layout", LoadRequest{Source: "oci:" + a.layout}, []string{"lab.test/app:v2", "localhost/app:v1"}},
		{"image of a layout", LoadRequest{Source: "oci:" + a.layout + ":v1"}, []string{"localhost/app:v1"}},
		{"image of a layout, named", LoadRequest{Source: "oci:" + a.layout + ":v1", Name: "my/own"}, []string{"localhost/my/own:latest"}},
		{"layout, one name", LoadRequest{Source: "oci:" + a.layout, Name: "x"}, nil},
		{"name with a digest", LoadRequest{Source: "oci:" + a.layout + ":v1", Name: "x@sha256:" + strings.Repeat("0", 64)}, nil},
		{"OCI archive", LoadRequest{Source: "oci-archive:" + a.oci}, []string{"lab.test/app:v1"}},
		{"OCI archive, named", LoadRequest{Source: "oci-archive:" + a.oci, Name: "lab.test/other:v3"}, []string{"lab.test/other:v3"}},
		{"Docker archive", LoadRequest{Source: "docker-archive:" + a.docker}, []string{"docker.io/library/busybox:1", "lab.test/app:v1", "lab.test/app:v2"}},
		{"image of a Docker archive", LoadRequest{Source: "docker-archive:" + a.docker + ":lab.test/app:v2"}, []string{"lab.test/app:v2"}},
		{"no path", LoadRequest{Source: "oci:"}, nil},
		{"no transport", LoadRequest{Source: a.docker}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, a.server)
			var resolved int
			test.request.Progress = func(e Event) {
				if _, ok := e.(Resolved); ok {
					resolved++
				}
			}
			loaded, err := n.puller.Load(context.Background(), test.request)
			if test.names == nil {
				expectKind(t, err, ErrInvalidReference)
				n.expectNothingLeft(t)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, image := range loaded {
				names = append(names, image.Name)
				stored, err := n.store.Images.Resolve(context.Background(), image.Name)
				if err != nil || stored.ID != image.ImageID {
					t.Errorf("%s is in the store as %q, %v; want %s", image.Name, stored.ID, err, image.ImageID)
				}
				want := a.firstText
				if strings.HasSuffix(image.Name, "v2") {
					want = a.otherText
				} else if image.ImageID != firstID.Hex && !strings.HasPrefix(test.request.Source, string(inDockerArchive)) {
					t.Errorf("%s has the id %s, want %s", image.Name, image.ImageID, firstID.Hex)
				}
				n.expectFiles(t, image.ImageID, map[string]string{"file0": want})
			}
			slices.Sort(names)
			if !slices.Equal(names, test.names) {
				t.Errorf("loaded %q, want %q", names, test.names)
			}
			if resolved != len(names) {
				t.Errorf("%d images were reported as resolved", resolved)
			}
			if left := n.temporary(t); len(left) > 0 {
				t.Errorf("temporary files are left: %q", left)
			}
		})
	}
}

func TestLoadAsksThePolicy(t *testing.T) {
	a := newArchives(t)
	policy := filepath.Join(t.TempDir(), "policy.json")
	content, err := json.Marshal(map[string]any{
		"default": []any{map[string]string{"type": "reject"}},
		"transports": map[string]any{
			"docker-archive": map[string]any{"": []any{map[string]string{"type": "insecureAcceptAnything"}}},
			"oci":            map[string]any{filepath.Dir(a.layout): []any{map[string]string{"type": "reject"}}},
			"docker":         map[string]any{"": []any{map[string]string{"type": "insecureAcceptAnything"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, policy, string(content))
	n := newNode(t, a.server, func(o *nodeOptions) { o.PolicyPath = policy })
	for _, source := range []string{"oci:" + a.layout, "oci-archive:" + a.oci} {
		_, err := n.puller.Load(context.Background(), LoadRequest{Source: source})
		expectKind(t, err, ErrPolicy)
		place := "for the default"
		if strings.HasPrefix(source, "oci:") {
			place = fmt.Sprintf("for the scope %q of the transport oci", filepath.Dir(a.layout))
		}
		if !strings.Contains(fmt.Sprint(err), "requirement 1 of 1, reject, "+place) {
			t.Errorf("error is %v", err)
		}
		n.expectNothingLeft(t)
	}
	if _, err := n.puller.Load(context.Background(), LoadRequest{Source: "docker-archive:" + a.docker}); err != nil {
		t.Error(err)
	}
}

func TestLoadRefusesOtherPlatforms(t *testing.T) {
	server := images.Registry(t)
	dir := filepath.Join(t.TempDir(), "foreign")
	to, err := layout.NewReference(dir, "v1")
	if err != nil {
		t.Fatal(err)
	}
	convert(t, server, server.Push(t, "foreign:v1", small(t, v1.Platform{OS: "windows", Architecture: runtime.GOARCH}, "content")), to, func(*copy.Options) {})
	n := newNode(t, server)
	_, err = n.puller.Load(context.Background(), LoadRequest{Source: "oci:" + dir})
	expectKind(t, err, ErrUnsupportedPlatform)
	n.expectNothingLeft(t)
}

// entry is a file of a hostile archive.
type entry struct {
	header  tar.Header
	content string
}

func writeTar(t *testing.T, path string, compress bool, entries ...entry) {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, entry := range entries {
		entry.header.Size, entry.header.Mode = int64(len(entry.content)), 0o644
		if err := w.WriteHeader(&entry.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(entry.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if compress {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(buffer.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		buffer = packed
	}
	write(t, path, buffer.String())
}

func file(name, content string) entry { return entry{header: tar.Header{Name: name}, content: content} }

func TestHostileArchives(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	up := strings.Repeat("../", 30) + outside[1:]
	index := imagespec.Index{}
	index.SchemaVersion = 2
	for i := range maxArchived + 1 {
		index.Manifests = append(index.Manifests, imagespec.Descriptor{
			MediaType: imagespec.MediaTypeImageManifest, Digest: digest.NewDigestFromEncoded(digest.SHA256, fmt.Sprintf("%064x", i)), Size: 2,
			Annotations: map[string]string{imagespec.AnnotationRefName: fmt.Sprintf("v%d", i)},
		})
	}
	long, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	good := file("index.json", `{"schemaVersion":2,"manifests":[]}`)
	n := newNode(t, images.Registry(t))
	for _, test := range []struct {
		name      string
		transport transport
		compress  bool
		entries   []entry
		text      string
	}{
		{"path upwards", inLayoutArchive, false, []entry{good, file(up, "x")}, "leads out"},
		{"path upwards, compressed", inLayoutArchive, true, []entry{good, file(up, "x")}, "leads out"},
		{"absolute path", inLayoutArchive, false, []entry{good, file(outside, "x")}, "leads out"},
		{"link", inLayoutArchive, false, []entry{good, {header: tar.Header{Name: "blobs", Typeflag: tar.TypeSymlink, Linkname: dir}}, file("blobs/outside", "x")}, "neither file nor directory"},
		{"device", inLayoutArchive, false, []entry{good, {header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock}}}, "neither file nor directory"},
		{"huge index", inLayoutArchive, false, []entry{file("index.json", strings.Repeat(" ", maxIndexSize+1))}, "more than"},
		{"two indexes", inLayoutArchive, false, []entry{good, file("./index.json", "{}")}, "two of"},
		{"no index", inLayoutArchive, false, []entry{file("other", "x")}, "no index.json"},
		{"long index", inLayoutArchive, false, []entry{file("index.json", string(long))}, "257 images"},
		{"no JSON", inLayoutArchive, false, []entry{file("index.json", "<html>")}, "parse"},
		{"no archive", inLayoutArchive, false, nil, ""},
		{"path upwards", inDockerArchive, false, []entry{file("manifest.json", `[{"Config":"`+up+`","Layers":[]}]`), file(up, "{}")}, "leads out"},
		{"config outside", inDockerArchive, false, []entry{file("manifest.json", `[{"Config":"/etc/passwd","RepoTags":["a:1"],"Layers":["/etc/shadow"]}]`)}, ""},
		{"huge manifest", inDockerArchive, false, []entry{file("manifest.json", "["+strings.Repeat(" ", 2<<20)+"]")}, ""},
	} {
		t.Run(string(test.transport)+" "+test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hostile.tar")
			writeTar(t, path, test.compress, test.entries...)
			_, err := n.puller.Load(context.Background(), LoadRequest{Source: string(test.transport) + ":" + path, Name: "a"})
			if !errors.Is(err, ErrInvalidImage) && !errors.Is(err, ErrNotFound) {
				t.Errorf("error is of another kind: %v", err)
			}
			if !strings.Contains(fmt.Sprint(err), test.text) || strings.Contains(fmt.Sprint(err), "root:") {
				t.Errorf("error is %v, want %q in it", err, test.text)
			}
			n.expectNothingLeft(t)
			if _, err := os.Lstat(outside); err == nil {
				t.Error("a file outside was written")
			}
		})
	}
}

// Links in a layout don't lead out of it.
func TestLayoutLinksStayInside(t *testing.T) {
	a := newArchives(t)
	n := newNode(t, a.server)
	outside := filepath.Join(t.TempDir(), "blobs")
	if err := os.Rename(filepath.Join(a.layout, "blobs"), outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(a.layout, "blobs")); err != nil {
		t.Fatal(err)
	}
	_, err := n.puller.Load(context.Background(), LoadRequest{Source: "oci:" + a.layout + ":v1"})
	if err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("error is %v", err)
	}
	n.expectNothingLeft(t)
}

func TestLoadOfNothing(t *testing.T) {
	a := newArchives(t)
	n := newNode(t, a.server)
	for _, source := range []string{
		"oci:/does/not/exist", "oci-archive:/does/not/exist", "docker-archive:/does/not/exist",
		"oci:" + a.layout + ":none", "oci-archive:" + a.oci + ":none", "docker-archive:" + a.docker + ":none:1",
	} {
		_, err := n.puller.Load(context.Background(), LoadRequest{Source: source})
		expectKind(t, err, ErrNotFound)
	}
}
