package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

// tenants are a node whose namespaces have policies of their own. Everything may be pulled
// for a namespace without one.
type tenants struct {
	*node
	server     *images.Server
	dir        string // of the policies
	signatures string // of the lookaside
	down       atomic.Bool
}

func newTenants(t *testing.T, settings ...string) *tenants {
	t.Helper()
	n := &tenants{server: images.Registry(t), dir: t.TempDir(), signatures: t.TempDir()}
	registries := filepath.Join(t.TempDir(), "registries.d")
	settings = append(settings, "lookaside: file://"+n.signatures)
	write(t, filepath.Join(registries, "test.yaml"), fmt.Sprintf("docker:\n  %s:\n    %s\n", n.server.Host, strings.Join(settings, "\n    ")))
	n.server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if n.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n.down.Load()
	})
	n.node = newNode(t, n.server, with(func(o *Options) {
		o.PolicyDir, o.PolicyPath, o.RegistriesDir = n.dir, acceptAll(t), registries
	}))
	return n
}

// require sets the policy of a namespace for a repository; everything else is rejected.
func (n *tenants) require(t *testing.T, namespace, scope string, requirements ...map[string]any) {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"default":    []any{map[string]any{"type": "reject"}},
		"transports": map[string]any{"docker": map[string]any{scope: requirements}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, n.policyOf(namespace), string(content))
}

func (n *tenants) policyOf(namespace string) string { return filepath.Join(n.dir, namespace+".json") }

// sign leaves a signature of an image, or artifact, under a name.
func (n *tenants) sign(t *testing.T, key *openpgp.Entity, name string, digest v1.Hash) {
	t.Helper()
	repository := strings.TrimPrefix(name[:strings.LastIndex(name, ":")], n.server.Host+"/")
	write(t, filepath.Join(n.signatures, repository+"@sha256="+digest.Hex, "signature-1"),
		string(gpgSign(t, key, payload(t, "atomic container signature", digest.String(), name))))
}

// permit asks about what a name or an id means on the node.
func (n *tenants) permit(t *testing.T, namespace, ref string) error {
	t.Helper()
	request := PermitRequest{Namespace: namespace, Ref: ref}
	if image, err := n.store.Images.Resolve(context.Background(), ref); err == nil {
		request.ID, request.Names = image.ID, append(slices.Clone(image.Names), image.Digests...)
	} else {
		artifact, err := n.puller.ResolveArtifact(ref)
		if err != nil {
			t.Fatal(err)
		}
		request.Artifact = &artifact
	}
	return n.puller.Permit(context.Background(), request)
}

func (n *tenants) expectPermitted(t *testing.T, namespace, ref string) {
	t.Helper()
	if err := n.permit(t, namespace, ref); err != nil {
		t.Errorf("%s in namespace %q: %v", ref, namespace, err)
	}
}

func (n *tenants) expectDenied(t *testing.T, namespace, ref string, texts ...string) {
	t.Helper()
	err := n.permit(t, namespace, ref)
	expectKind(t, err, ErrPolicy)
	for _, text := range append(texts, ref, fmt.Sprintf("%q", namespace), n.policyOf(namespace)) {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("the error doesn't say %q: %v", text, err)
		}
	}
}

// expectAsked checks whether the registry is asked anything during do.
func (n *tenants) expectAsked(t *testing.T, some bool, do func()) {
	t.Helper()
	before := n.server.Requests()
	do()
	if got := n.server.Requests() - before; some != (got > 0) {
		t.Errorf("the registry got %d requests", got)
	}
}

func signedByKey(key string) map[string]any {
	return map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyData": key}
}

// What is here was pulled for another namespace. The signatures that came with it decide,
// without the registry.
func TestPermitBySignaturesThatAreHere(t *testing.T) {
	ours, ourKey := gpgKey(t, "ours")
	_, theirKey := gpgKey(t, "theirs")
	for _, kind := range []string{"image", "index", "artifact"} {
		t.Run(kind, func(t *testing.T) {
			n := newTenants(t)
			ref, digest := n.push(t, kind, "team/app:v1")
			n.sign(t, ours, ref, digest)
			id := n.fetch(t, ref)
			n.require(t, "ours", n.server.Host, signedByKey(ourKey))
			n.require(t, "theirs", n.server.Host, signedByKey(theirKey))
			n.require(t, "both", n.server.Host, signedByKey(ourKey), signedByKey(theirKey))
			n.require(t, "elsewhere", "elsewhere.example", signedByKey(ourKey))
			n.require(t, "named", n.server.Host+"/team", map[string]any{"type": "insecureAcceptAnything"})
			write(t, n.policyOf("rejects"), `{"default": [{"type": "reject"}]}`)
			write(t, n.policyOf("broken"), `{`)

			n.down.Store(true)
			n.expectAsked(t, false, func() {
				for _, name := range []string{ref, id, id[:12], n.server.Host + "/team/app@" + digest.String()} {
					n.expectPermitted(t, "ours", name)
					n.expectPermitted(t, "named", name)
					n.expectPermitted(t, "", name)
					n.expectPermitted(t, "free", name)
					n.expectPermitted(t, "../../ours", name)
				}
				n.expectDenied(t, "elsewhere", ref, "requirement 1 of 1, reject, for the default")
				n.expectDenied(t, "rejects", ref, "requirement 1 of 1, reject, for the default")
				err := n.permit(t, "broken", ref)
				var e *Error
				if !errors.As(err, &e) || e.Kind != nil || !strings.Contains(err.Error(), n.policyOf("broken")) {
					t.Errorf("with a broken policy: %v", err)
				}
			})
			n.expectDenied(t, "theirs", ref, fmt.Sprintf("requirement 1 of 1, signedBy, for the scope %q", n.server.Host))
			n.expectDenied(t, "both", ref, "requirement 2 of 2, signedBy")
			if left := n.temporary(t); len(left) > 0 {
				t.Errorf("temporary files are left: %q", left)
			}
		})
	}
}

// push puts something into the registry and returns the digest that is to be signed.
func (n *tenants) push(t *testing.T, kind, name string) (ref string, digest v1.Hash) {
	t.Helper()
	if kind == "artifact" {
		ref = pushArtifact(t, n.server, name, [2]string{"a", "same"}, [2]string{"b", "same"}, [2]string{"c/d", "other"})
		digest, err := v1.NewHash(n.server.Digest(t, ref))
		if err != nil {
			t.Fatal(err)
		}
		return ref, digest
	}
	image := small(t, images.Here(), "content")
	digest, _ = image.Digest()
	if kind == "index" {
		return n.server.PushIndex(t, name, images.Index(t, images.OCI, small(t, images.Elsewhere(), "content"), image)), digest
	}
	return n.server.Push(t, name, image), digest
}

// fetch pulls something for a namespace without a policy, and returns its id.
func (n *tenants) fetch(t *testing.T, ref string) string {
	t.Helper()
	pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "free", Artifacts: true})
	if err != nil {
		t.Fatal(err)
	}
	if pulled.Artifact != nil {
		return pulled.Artifact.ID()
	}
	return pulled.ImageID
}

// Signatures that are not here may be in the registry. It is asked once in a while.
func TestPermitBySignaturesInTheRegistry(t *testing.T) {
	ours, ourKey := gpgKey(t, "ours")
	for _, kind := range []string{"image", "artifact"} {
		t.Run(kind, func(t *testing.T) {
			n := newTenants(t)
			ref, digest := n.push(t, kind, "app:v1")
			n.fetch(t, ref)
			n.require(t, "ours", n.server.Host, signedByKey(ourKey))
			n.expectAsked(t, true, func() { n.expectDenied(t, "ours", ref, "in the registry", "no signature exists") })
			n.expectAsked(t, false, func() { n.expectDenied(t, "ours", ref, "in the registry") })

			n.sign(t, ours, ref, digest)
			n.expectAsked(t, false, func() { n.expectDenied(t, "ours", ref) })
			n.puller.verdicts.age(refusalsKept + time.Second)
			n.expectAsked(t, true, func() { n.expectPermitted(t, "ours", ref) })
			n.puller.verdicts.age(refusalsKept + time.Second)
			n.down.Store(true)
			n.expectAsked(t, false, func() { n.expectPermitted(t, "ours", ref) })

			// An edited policy is asked anew.
			n.require(t, "ours", n.server.Host+"/app", signedByKey(ourKey))
			n.expectAsked(t, true, func() { n.expectDenied(t, "ours", ref, "503") })
			n.down.Store(false)
			n.fetch(t, ref)
			n.down.Store(true)
			n.expectAsked(t, false, func() { n.expectPermitted(t, "ours", ref) })
		})
	}
}

// age makes all verdicts older.
func (v *verdicts) age(by time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, known := range v.known {
		known.at = known.at.Add(-by)
		v.known[key] = known
	}
}

// The store has the signatures of the last pull only, and an image may be in two
// repositories, with a signature in each or in one.
func TestPermitAfterAPullFromAnotherRepository(t *testing.T) {
	ours, ourKey := gpgKey(t, "ours")
	for _, kind := range []string{"image", "artifact"} {
		t.Run(kind, func(t *testing.T) {
			n := newTenants(t)
			signed, digest := n.push(t, kind, "prod/app:v1")
			unsigned, _ := n.push(t, kind, "test/app:v1")
			n.sign(t, ours, signed, digest)
			n.require(t, "ours", n.server.Host, signedByKey(ourKey))
			n.fetch(t, signed)
			id := n.fetch(t, unsigned)
			n.expectPermitted(t, "ours", signed)
			n.expectPermitted(t, "ours", id)
			n.expectDenied(t, "ours", unsigned, "no signature exists")
		})
	}
}

func TestPermitBySigstore(t *testing.T) {
	key := ecdsaKey(t)
	for _, kind := range []string{"image", "artifact"} {
		t.Run(kind, func(t *testing.T) {
			n := newTenants(t, "use-sigstore-attachments: true")
			ref, digest := n.push(t, kind, "app:v1")
			content := payload(t, "cosign container image signature", digest.String(), ref)
			attach(t, n.server, digest, sigstoreSignature{content, map[string]string{
				"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sign(t, key, content)),
			}})
			n.fetch(t, ref)
			file := filepath.Join(t.TempDir(), "key.pem")
			write(t, file, string(publicPEM(t, key)))
			n.require(t, "ours", n.server.Host, map[string]any{"type": "sigstoreSigned", "keyPath": file})
			n.down.Store(true)
			n.expectAsked(t, false, func() { n.expectPermitted(t, "ours", ref) })
			write(t, file, string(publicPEM(t, ecdsaKey(t))))
			n.expectAsked(t, true, func() { n.expectDenied(t, "ours", ref, "requirement 1 of 1, sigstoreSigned") })
			// Another key makes it another policy.
			write(t, file, string(publicPEM(t, ecdsaKey(t))))
			n.expectAsked(t, true, func() { n.expectDenied(t, "ours", ref) })
			n.expectAsked(t, false, func() { n.expectDenied(t, "ours", ref) })
		})
	}
}

// An artifact of which no signatures were kept, as by earlier versions.
func TestPermitArtifactWithoutSignatures(t *testing.T) {
	ours, ourKey := gpgKey(t, "ours")
	n := newTenants(t)
	ref, digest := n.push(t, "artifact", "app:v1")
	n.sign(t, ours, ref, digest)
	n.fetch(t, ref)
	artifact, err := n.puller.ResolveArtifact(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(artifact.Path), signedDir)); err != nil {
		t.Fatal(err)
	}
	n.require(t, "ours", n.server.Host, signedByKey(ourKey))
	n.require(t, "named", n.server.Host, map[string]any{"type": "insecureAcceptAnything"})
	n.expectPermitted(t, "ours", ref)
	n.down.Store(true)
	n.expectAsked(t, false, func() { n.expectPermitted(t, "named", ref) })
}

func TestVerdictsAreBounded(t *testing.T) {
	var v verdicts
	for i := range 3 * maxVerdicts {
		v.remember(asked{name: fmt.Sprint(i)}, nil)
		if known, _ := v.find(asked{name: fmt.Sprint(i)}); !known || len(v.known) > maxVerdicts {
			t.Fatalf("after %d verdicts %d are kept", i+1, len(v.known))
		}
	}
}
