package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestImagesOfOtherNamespaces: what a pod of one namespace has pulled is on the node for
// all. A namespace whose signature policy refuses it neither runs nor mounts it. Nobody
// needs the registry for that.
func TestImagesOfOtherNamespaces(t *testing.T) {
	t.Parallel()
	n := newTenants(t)
	lenient, strict := n.h.RunPod(n.pod("lenient")), n.h.RunPod(n.pod("strict"))
	n.h.Registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	n.expectContents(t, lenient, n.unsigned, "unsigned")
	n.expectContents(t, strict, n.signed, "signed")
	n.expectRefusals(t, strict)
	strict.Run(n.container("d", n.signed.image)) // they have left nothing that is in its way

	// A policy that appears or goes away counts at once.
	n.h.write(n.path("lenient.json"), `{"default": [{"type": "reject"}]}`)
	_, err := lenient.TryCreate(n.container("d", n.unsigned.image))
	n.h.Refused(err, codes.PermissionDenied, n.path("lenient.json"), "requirement 1 of 1, reject")
	if err := os.Remove(n.path("lenient.json")); err != nil {
		t.Fatal(err)
	}
	lenient.Run(n.container("d", n.unsigned.image))

	lenient.Remove()
	strict.Remove()
	for _, artifact := range []*runtimeapi.ImageSpec{n.signed.file, n.unsigned.file} {
		n.h.RemoveImage(artifact.Image)
	}
	n.h.Audit()
}

// tenants are a node with two namespaces. For the one without a policy, signed and unsigned
// things were pulled; the other accepts signed ones.
type tenants struct {
	*nodeFiles
	h                *Harness
	signed, unsigned things
}

// things are an image and an artifact, by id and name.
type things struct{ image, file *runtimeapi.ImageSpec }

func newTenants(t *testing.T) *tenants {
	t.Helper()
	n := &tenants{nodeFiles: &nodeFiles{dir: t.TempDir(), key: signingKey(t)}}
	h := New(t, programs, Options{Image: fmt.Sprintf("signature_policy_dir = %q\nregistries_dir = %q\n", n.dir, n.path("registries.d"))})
	n.h = h
	if err := os.Mkdir(n.path("registries.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write(n.path("registries.d/lab.yaml"), fmt.Sprintf("docker:\n  %s:\n    lookaside: file://%s\n", h.Registry.Host, n.path("signatures")))
	h.write(n.path("key.asc"), n.publicKey(t))
	h.write(n.path("strict.json"), fmt.Sprintf(`{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": %q}]}`, n.path("key.asc")))
	n.signed, n.unsigned = n.pull(t, "signed", true), n.pull(t, "unsigned", false)
	return n
}

// pull pushes things and pulls them for the namespace without a policy.
func (n *tenants) pull(t *testing.T, content string, signed bool) things {
	t.Helper()
	one := func(name string, image v1.Image) *runtimeapi.ImageSpec {
		ref := n.h.Registry.Push(t, content+"/"+name+":v1", image)
		if signed {
			n.signAs(t, n.key, ref, digestOf(t, image))
		}
		answer, err := n.h.Images.PullImage(n.h.Context(), &runtimeapi.PullImageRequest{
			Image: &runtimeapi.ImageSpec{Image: ref}, SandboxConfig: n.pod("lenient"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return &runtimeapi.ImageSpec{Image: answer.GetImageRef(), UserSpecifiedImage: ref}
	}
	return things{image: one("image", labImage(t, content)), file: one("file", labArtifact(t, content))}
}

func (n *tenants) pod(namespace string) *runtimeapi.PodSandboxConfig {
	pod := n.h.PodConfig(namespace)
	pod.Metadata.Namespace = namespace
	return pod
}

func (n *tenants) container(name string, image *runtimeapi.ImageSpec, mounted ...*runtimeapi.ImageSpec) *runtimeapi.ContainerConfig {
	config := n.h.ContainerConfig(name)
	config.Image = image
	for i, image := range mounted {
		config.Mounts = append(config.Mounts, &runtimeapi.Mount{ContainerPath: fmt.Sprintf("/mounted/%d", i), Image: image, Readonly: true})
	}
	return config
}

// expectContents runs and mounts things.
func (n *tenants) expectContents(t *testing.T, pod *Pod, of things, content string) {
	t.Helper()
	c := pod.Run(n.container("c", of.image, of.image, of.file, onlyName(of.image)))
	got := n.h.Exec(c, "cat", "/content", "/mounted/0/content", "/mounted/1/content", "/mounted/2/content")
	if got != strings.Repeat(content, 4) {
		t.Errorf("the image and what is mounted have %q", got)
	}
}

// expectRefusals tries to run and to mount what is not signed.
func (n *tenants) expectRefusals(t *testing.T, pod *Pod) {
	t.Helper()
	const volume = "ImageVolumeMountFailed: "
	signed, unsigned, file := n.signed.image, n.unsigned.image, n.unsigned.file
	for what, test := range map[string]struct {
		config *runtimeapi.ContainerConfig
		begins string
		words  []string
	}{
		"with the user's name": {n.container("d", unsigned), signaturesRequired, []string{"config.image", unsigned.UserSpecifiedImage}},
		"by name":              {n.container("d", onlyName(unsigned)), signaturesRequired, []string{"config.image", unsigned.UserSpecifiedImage}},
		"by id":                {n.container("d", onlyID(unsigned)), signaturesRequired, []string{"config.image", unsigned.UserSpecifiedImage, unsigned.Image}},
		"mounted":              {n.container("d", signed, signed, unsigned), volume, []string{signaturesRequired, "mounts[1].image", unsigned.UserSpecifiedImage}},
		"mounted artifact":     {n.container("d", signed, file), volume, []string{signaturesRequired, "mounts[0].image", file.UserSpecifiedImage}},
		"artifact by name":     {n.container("d", signed, onlyName(file)), volume, []string{signaturesRequired, "mounts[0].image", file.UserSpecifiedImage}},
		"artifact by id":       {n.container("d", signed, onlyID(file)), volume, []string{signaturesRequired, "mounts[0].image", file.UserSpecifiedImage}},
	} {
		_, err := pod.TryCreate(test.config)
		n.h.Refused(err, codes.PermissionDenied, append(test.words, n.path("strict.json"), `"strict"`, "requirement 1 of 1, signedBy")...)
		if message := status.Convert(err).Message(); !strings.HasPrefix(message, test.begins) {
			t.Errorf("%s: the message is %q, want it to begin with %s", what, message, test.begins)
		}
	}
}

// onlyName and onlyID name an image as crictl does.
func onlyName(of *runtimeapi.ImageSpec) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: of.UserSpecifiedImage}
}

func onlyID(of *runtimeapi.ImageSpec) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: of.Image}
}

func labImage(t *testing.T, content string) v1.Image {
	t.Helper()
	return images.Build(t, images.Spec{
		Config: v1.Config{Env: []string{"PATH=/bin"}},
		Layers: [][]images.File{images.BusyboxFiles(t), {{Path: "content", Mode: 0o644, Content: []byte(content)}}},
	})
}

func labArtifact(t *testing.T, content string) v1.Image {
	t.Helper()
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.lab.test.thing")
	artifact, err := mutate.Append(artifact, mutate.Addendum{
		Layer:       static.NewLayer([]byte(content), "text/plain"),
		Annotations: map[string]string{"org.opencontainers.image.title": "content"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return artifact
}
