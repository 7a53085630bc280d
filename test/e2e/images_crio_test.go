package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestFilesOfANode takes over the files of a CRI-O node, as in the manual pages of
// containers-registries.conf(5), containers-registries.d(5), containers-policy.json(5),
// containers-auth.json(5) and containers-storage.conf(5).
func TestFilesOfANode(t *testing.T) {
	t.Parallel()
	n := newNodeFiles(t)
	h := New(t, programs, Options{Configure: n.configure})
	for name, check := range map[string]func(*testing.T, *Harness){
		"short names": n.shortNames, "mirrors": n.mirrors, "blocked": n.blocked, "insecure": n.insecure, "credentials": n.credentials,
		"signatures": n.signatures, "policies of namespaces": n.namespaces, "storage": n.storage, "partial pulls": n.partialPulls,
	} {
		t.Run(name, func(t *testing.T) { check(t, h.In(t)) })
	}
	h.Audit()
}

// nodeFiles are the files, and the registries and keys in them. Beside the harness's
// registry there are one with copies, one with a password, one that the policy doesn't
// know, and one that isn't listed as insecure.
type nodeFiles struct {
	dir              string
	copies, open     *images.Server
	private, unknown *images.Proxy
	image            v1.Image
	key, stranger    *openpgp.Entity
	metrics          string // the address that they are served at
}

const nodePassword = "from auth.json"

func newNodeFiles(t *testing.T) *nodeFiles {
	t.Helper()
	n := &nodeFiles{dir: t.TempDir(), metrics: freeAddress(t), copies: images.Registry(t), open: images.Registry(t)}
	n.private, n.unknown = images.Front(t, n.copies), images.Front(t, n.copies)
	n.private.Spoil(func(r *http.Request) images.Fault {
		if _, password, _ := r.BasicAuth(); password == nodePassword {
			return images.Fault{}
		}
		return images.Fault{Status: http.StatusUnauthorized, Header: http.Header{"WWW-Authenticate": {`Basic realm="test"`}}}
	})
	n.image = images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "content", Mode: 0o644, Content: []byte("x")}}}})
	n.key, n.stranger = signingKey(t), signingKey(t)
	return n
}

func signingKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("node", "", "node@lab.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (n *nodeFiles) path(name string) string { return filepath.Join(n.dir, name) }

// configure writes the files and returns the configuration that names them.
func (n *nodeFiles) configure(h *Harness) string {
	h.t.Helper()
	own := h.Registry.Host
	for name, content := range map[string]string{
		"registries.conf":                       n.registries(own),
		"registries.conf.d/000-shortnames.conf": fmt.Sprintf("[aliases]\n  \"tiny\" = \"%s/deep/down/tiny\"\n", n.copies.Host),
		"registries.conf.d/50-insecure.conf":    n.plainHTTP(own),
		"registries.d/default.yaml":             fmt.Sprintf("default-docker:\n  lookaside: file://%s\n", n.path("nowhere")),
		"registries.d/lab.yaml":                 fmt.Sprintf("docker:\n  %s/signed:\n    lookaside: file://%s\n", own, n.path("signatures")),
		"policy.json":                           n.policy(own),
		"policies/strict.json":                  `{"default": [{"type": "reject"}]}`,
		"auth.json":                             n.authFile(),
		"storage.conf":                          n.storageConf(h),
		"key.asc":                               n.publicKey(h.t),
	} {
		if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
			h.t.Fatal(err)
		}
		h.write(n.path(name), content)
	}
	return fmt.Sprintf(`
[image]
registries_conf = %q
registries_conf_dir = %q
registries_dir = %q
signature_policy = %q
signature_policy_dir = %q
global_auth_file = %q
pull_retries = 0

[storage]
conf = %q

[nri]
nri_listen = %q

[metrics]
listen = %q
`, n.path("registries.conf"), n.path("registries.conf.d"), n.path("registries.d"), n.path("policy.json"), n.path("policies"), n.path("auth.json"), n.path("storage.conf"), h.NRISocket, n.metrics)
}

// registries is a registries.conf with mirrors, one of which is not there, and a block.
func (n *nodeFiles) registries(own string) string {
	return fmt.Sprintf(`
unqualified-search-registries = [%[1]q, %[2]q]
short-name-mode = "permissive"

[[registry]]
prefix = "upstream.lab.test/foo"
insecure = false
blocked = false
location = "127.0.0.1:1/bar"

[[registry.mirror]]
location = "127.0.0.1:2/mirror-for-foo"

[[registry.mirror]]
location = "%[2]s/mirrors/foo"
insecure = true

[[registry]]
prefix = "digests.lab.test"
location = "%[2]s/nothing"
insecure = true
mirror-by-digest-only = true

[[registry.mirror]]
location = "%[2]s/mirrors"
insecure = true

[[registry]]
location = "blocked.lab.test"
blocked = true
`, own, n.copies.Host)
}

// plainHTTP allows plain HTTP to the registries of the test.
func (n *nodeFiles) plainHTTP(own string) string {
	return fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n\n[[registry]]\nlocation = %q\ninsecure = true\n\n[[registry]]\nlocation = %q\ninsecure = true\n\n[[registry]]\nlocation = %q\ninsecure = true\n",
		own, n.copies.Host, n.private.Host, n.unknown.Host)
}

// policy refuses what it does not name, and wants signatures below signed.
func (n *nodeFiles) policy(own string) string {
	return fmt.Sprintf(`{
    "default": [{"type": "reject"}],
    "transports": {
        "docker": {
            %[1]q: [{"type": "insecureAcceptAnything"}],
            "%[1]s/signed": [
                {
                    "type": "signedBy",
                    "keyType": "GPGKeys",
                    "keyPath": %[2]q,
                    "signedIdentity": {"type": "matchRepository"}
                }
            ],
            %[3]q: [{"type": "insecureAcceptAnything"}],
            %[4]q: [{"type": "insecureAcceptAnything"}],
            %[5]q: [{"type": "insecureAcceptAnything"}],
            "*.lab.test": [{"type": "insecureAcceptAnything"}]
        },
        "docker-daemon": {
            "": [{"type": "insecureAcceptAnything"}]
        }
    }
}`, own, n.path("key.asc"), n.copies.Host, n.private.Host, n.open.Host)
}

// authFile is what podman login writes.
func (n *nodeFiles) authFile() string {
	return fmt.Sprintf(`{
	"auths": {
		"%s/team": {
			"auth": %q
		},
		"other.lab.test": {
			"auth": "bm9ib2R5OndpdGhvdXQ="
		}
	}
}`, n.private.Host, base64.StdEncoding.EncodeToString([]byte("node:"+nodePassword)))
}

// storageConf is a node's file with keys of every age.
func (n *nodeFiles) storageConf(h *Harness) string {
	return fmt.Sprintf(`
[storage]
driver = "overlay"
runroot = %q
graphroot = %q

[storage.options]
additionalimagestores = [
]
pull_options = {enable_partial_images = "true", use_hard_links = "false", ostree_repos=""}

[storage.options.overlay]
mountopt = "nodev"

[storage.options.thinpool]
`, filepath.Join(h.State, "containers"), h.storage())
}

func (n *nodeFiles) publicKey(t testing.TB) string {
	var armored bytes.Buffer
	w, err := armor.Encode(&armored, openpgp.PublicKeyType, nil)
	if err == nil {
		err = n.key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return armored.String()
}

// expectPulled pulls an image and checks its name.
func (n *nodeFiles) expectPulled(t *testing.T, h *Harness, ref, name string) {
	t.Helper()
	id := h.Pull(ref)
	found := h.ImageStatus(ref)
	if found.GetId() != id || !slices.Contains(append(found.GetRepoTags(), found.GetRepoDigests()...), name) {
		t.Errorf("%s was pulled as %v, want the name %s", ref, found, name)
	}
	h.RemoveImage(id)
}

func (n *nodeFiles) tryPull(h *Harness, ref, namespace string) error {
	h.t.Helper()
	pod := h.PodConfig("files")
	pod.Metadata.Namespace = namespace
	_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}, SandboxConfig: pod})
	return err
}

func (n *nodeFiles) shortNames(t *testing.T, h *Harness) {
	n.copies.Push(t, "only/copies:v1", n.image)
	n.copies.Push(t, "deep/down/tiny:v1", n.image)
	n.expectPulled(t, h, "only/copies:v1", n.copies.Host+"/only/copies:v1")
	n.expectPulled(t, h, "tiny:v1", n.copies.Host+"/deep/down/tiny:v1")
}

func (n *nodeFiles) mirrors(t *testing.T, h *Harness) {
	n.copies.Push(t, "mirrors/foo/app:v1", n.image)
	n.copies.Push(t, "mirrors/app:v1", n.image)
	n.expectPulled(t, h, "upstream.lab.test/foo/app:v1", "upstream.lab.test/foo/app:v1")
	byDigest := "digests.lab.test/app@" + digestOf(t, n.image)
	n.expectPulled(t, h, byDigest, byDigest)
	h.Refused(n.tryPull(h, "digests.lab.test/app:v1", "any"), codes.NotFound, "digests.lab.test/app:v1")
}

func (n *nodeFiles) blocked(t *testing.T, h *Harness) {
	h.Refused(n.tryPull(h, "blocked.lab.test/app:v1", "any"), codes.FailedPrecondition, "blocked.lab.test/app:v1", "blocked", "registries.conf")
}

// insecure: plain HTTP is only for registries for which the files allow it.
func (n *nodeFiles) insecure(t *testing.T, h *Harness) {
	ref := n.open.Push(t, "app:v1", n.image)
	h.Refused(n.tryPull(h, ref, "any"), codes.Unavailable, ref, "HTTPS")
}

// credentials of auth.json are for a part of a registry.
func (n *nodeFiles) credentials(t *testing.T, h *Harness) {
	n.copies.Push(t, "team/app:v1", n.image)
	n.copies.Push(t, "others/app:v1", n.image)
	n.expectPulled(t, h, n.private.Host+"/team/app:v1", n.private.Host+"/team/app:v1")
	h.Refused(n.tryPull(h, n.private.Host+"/others/app:v1", "any"), codes.Unauthenticated, n.private.Host+"/others/app:v1")
}

// signaturesRequired begins the message; the kubelet knows the word.
const signaturesRequired = "SignatureValidationFailed: "

func (n *nodeFiles) expectUntrusted(t *testing.T, h *Harness, err error, words ...string) {
	t.Helper()
	h.Refused(err, codes.PermissionDenied, words...)
	if message := status.Convert(err).Message(); !strings.HasPrefix(message, signaturesRequired) {
		t.Errorf("the message is %q, want it to begin with %s", message, signaturesRequired)
	}
	all, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.Images) != 2 {
		t.Errorf("there are %d images, %v; want busybox and the tester", len(all.GetImages()), err)
	}
}

func (n *nodeFiles) signatures(t *testing.T, h *Harness) {
	ref := h.Registry.Push(t, "signed/app:v1", n.image)
	requirement := []string{ref, "requirement 1 of 1, signedBy", h.Registry.Host + "/signed", n.path("policy.json")}
	n.expectUntrusted(t, h, n.tryPull(h, ref, "any"), append(requirement, "no signature exists")...)
	n.sign(t, n.stranger, ref)
	n.expectUntrusted(t, h, n.tryPull(h, ref, "any"), requirement...)
	n.sign(t, n.key, h.Registry.Host+"/signed/other:v1")
	n.expectUntrusted(t, h, n.tryPull(h, ref, "any"), requirement...)
	// The requirement is the repository's: another tag's signature is as good.
	n.sign(t, n.key, h.Registry.Host+"/signed/app:v9")
	n.expectPulled(t, h, ref, ref)
	if events := h.Stele("events", "-o", "wide"); !strings.Contains(events, "fault.kind=signature refused") {
		t.Error("the history doesn't show the refusals")
	}
	// The policy doesn't know this registry.
	n.copies.Push(t, "app:v1", n.image)
	unknown := n.unknown.Host + "/app:v1"
	n.expectUntrusted(t, h, n.tryPull(h, unknown, "any"), unknown, "requirement 1 of 1, reject", "the default")
}

// sign signs the image as the repository signed/app has it.
func (n *nodeFiles) sign(t *testing.T, key *openpgp.Entity, name string) {
	t.Helper()
	n.leave(t, "signed/app", digestOf(t, n.image), n.signature(t, key, name, digestOf(t, n.image)))
}

// signAs signs an image under its name, as its repository has it.
func (n *nodeFiles) signAs(t *testing.T, key *openpgp.Entity, name, digest string) {
	t.Helper()
	_, path, _ := strings.Cut(name, "/")
	repository, _, _ := strings.Cut(path, ":")
	n.leave(t, repository, digest, n.signature(t, key, name, digest))
}

// leave puts a signature where registries.d says.
func (n *nodeFiles) leave(t *testing.T, repository, digest string, signature []byte) {
	t.Helper()
	dir := n.path("signatures/" + repository + "@" + strings.Replace(digest, ":", "=", 1))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "signature-1"), signature, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (n *nodeFiles) signature(t *testing.T, key *openpgp.Entity, name, digest string) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"type":     "atomic container signature",
			"image":    map[string]string{"docker-manifest-digest": digest},
			"identity": map[string]string{"docker-reference": name},
		},
		"optional": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	var signature bytes.Buffer
	w, err := openpgp.Sign(&signature, key, nil, nil)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature.Bytes()
}

// namespaces: a namespace's own policy is for its pods, and for no others.
func (n *nodeFiles) namespaces(t *testing.T, h *Harness) {
	ref := h.Registry.Push(t, "free/app:v1", n.image)
	n.expectUntrusted(t, h, n.tryPull(h, ref, "strict"), ref, "requirement 1 of 1, reject", n.path("policies/strict.json"))
	if err := n.tryPull(h, ref, "lenient"); err != nil {
		t.Error(err)
	}
	h.RemoveImage(ref)
}

// storage: images are where storage.conf says, and its mount options are used.
func (n *nodeFiles) storage(t *testing.T, h *Harness) {
	info, err := h.Images.ImageFsInfo(h.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if at := info.ImageFilesystems[0].FsId.Mountpoint; !strings.HasPrefix(at, h.storage()) {
		t.Errorf("the images are at %s, want %s", at, h.storage())
	}
	pod := h.RunPod(h.PodConfig("storage"))
	id := pod.Run(h.ContainerConfig("c"))
	if mounts := h.Exec(id, "grep", " / ", "/proc/mounts"); !strings.Contains(mounts, "nodev") {
		t.Errorf("the root is mounted as %q, want nodev", mounts)
	}
	pod.Remove()
}

// partialPulls: with enable_partial_images, only missing files of zstd:chunked layers are
// fetched.
func (n *nodeFiles) partialPulls(t *testing.T, h *Harness) {
	const big = 3 << 20
	var fetched []float64
	var ids []string
	for _, version := range []string{"v1", "v2"} {
		plain := h.Registry.Push(t, "plain/app:"+version, images.Build(t, images.Spec{
			Config: v1.Config{Env: []string{"PATH=/bin"}},
			Layers: [][]images.File{images.BusyboxFiles(t), {
				{Path: "big", Mode: 0o644, Content: noise(big)}, {Path: "version", Mode: 0o644, Content: []byte(version)},
			}},
		}))
		before := n.fetched(t)
		ids = append(ids, h.Pull(h.Registry.Convert(t, plain, "chunked/app:"+version, images.ZstdChunked)))
		fetched = append(fetched, n.fetched(t)-before)
	}
	if fetched[0] < big || fetched[1] > big/4 {
		t.Errorf("the pulls fetched %.0f bytes; the second time a file of %d bytes was there", fetched, big)
	}
	pod := h.RunPod(h.PodConfig("partial"))
	for i, id := range ids {
		config := h.ContainerConfig(fmt.Sprintf("c%d", i), "sh", "-c", "cat /version; echo; sha256sum </big")
		config.Image.Image = id
		h.WaitExit(pod.Run(config))
		if got, want := pod.said(config), []string{fmt.Sprintf("v%d", i+1), fmt.Sprintf("%x  -", sha256Of(noise(big)))}; !slices.Equal(got, want) {
			t.Errorf("the container said %q, want %q", got, want)
		}
	}
	pod.Remove()
	for _, id := range ids {
		h.RemoveImage(id)
	}
}

// fetched returns how many bytes pulls have transferred.
func (n *nodeFiles) fetched(t *testing.T) (bytes float64) {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+n.metrics+"/metrics")) {
		if value, ok := strings.CutPrefix(line, "stele_image_pull_bytes_total "); ok {
			if _, err := fmt.Sscan(value, &bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	return bytes
}
