package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/stele-runtime/stele/test/images"
)

// trust is a node without a policy yet.
type trust struct {
	*node
	dir    string // lookaside signatures, keys, and the files below
	policy string
	server *images.Server
}

func newTrust(t *testing.T, server *images.Server, registriesD string) *trust {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	write(t, policy, `{"default": [{"type": "reject"}]}`)
	registries := filepath.Join(dir, "registries.d")
	write(t, filepath.Join(registries, "test.yaml"), fmt.Sprintf("docker:\n  %s:\n    %s\n", server.Host, registriesD))
	n := newNode(t, server, with(func(o *Options) { o.PolicyPath, o.RegistriesDir = policy, registries }))
	return &trust{node: n, dir: dir, policy: policy, server: server}
}

// require sets the policy for the registry's images.
func (n *trust) require(t *testing.T, requirements ...map[string]any) {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"default":    []any{map[string]any{"type": "reject"}},
		"transports": map[string]any{"docker": map[string]any{n.server.Host: requirements}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, n.policy, string(content))
}

func (n *trust) expectRefused(t *testing.T, ref string, texts ...string) {
	t.Helper()
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrPolicy)
	for _, text := range texts {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("the error doesn't say %q: %v", text, err)
		}
	}
	n.expectNothingLeft(t)
}

// payload is what is signed: of kind "atomic container signature" (openpgp) or "cosign
// container image signature" (sigstore).
func payload(t *testing.T, kind, digest, name string) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"type":     kind,
			"image":    map[string]string{"docker-manifest-digest": digest},
			"identity": map[string]string{"docker-reference": name},
		},
		"optional": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func gpgKey(t *testing.T, name string) (*openpgp.Entity, string) {
	t.Helper()
	entity, err := openpgp.NewEntity(name, "", name+"@lab.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := entity.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	return entity, base64.StdEncoding.EncodeToString(public.Bytes())
}

func gpgSign(t *testing.T, signer *openpgp.Entity, content []byte) []byte {
	t.Helper()
	var signed bytes.Buffer
	w, err := openpgp.Sign(&signed, signer, nil, nil)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed.Bytes()
}

func TestSignedBy(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "content")
	index := images.Index(t, images.OCI, small(t, images.Elsewhere(), "content"), image)
	ref := server.Push(t, "team/app:v1", image)
	multi := server.PushIndex(t, "team/multi:v1", index)
	digest, _ := image.Digest()
	ours, ourKey := gpgKey(t, "ours")
	theirs, _ := gpgKey(t, "theirs")

	store := t.TempDir()
	http := httptest.NewServer(http.FileServer(http.Dir(store)))
	t.Cleanup(http.Close)
	for name, lookaside := range map[string]string{"file": "file://" + store, "http": http.URL} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { os.RemoveAll(filepath.Join(store, "team")) })
			n := newTrust(t, server, "lookaside: "+lookaside)
			signed := map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyData": ourKey}
			n.require(t, map[string]any{"type": "insecureAcceptAnything"}, signed)
			leave := func(repository string, signature []byte) {
				write(t, filepath.Join(store, repository+"@sha256="+digest.Hex, "signature-1"), string(signature))
			}
			place := fmt.Sprintf("requirement 2 of 2, signedBy, for the scope %q of the transport docker in %s", server.Host, n.policy)
			n.expectRefused(t, ref, place, "no signature exists")

			leave("team/app", gpgSign(t, theirs, payload(t, "atomic container signature", digest.String(), ref)))
			n.expectRefused(t, ref, place)
			leave("team/app", gpgSign(t, ours, payload(t, "atomic container signature", digest.String(), server.Host+"/other:v1")))
			n.expectRefused(t, ref, place, "other:v1")
			leave("team/app", gpgSign(t, ours, payload(t, "atomic container signature", "sha256:"+strings.Repeat("0", 64), ref)))
			n.expectRefused(t, ref, place)
			leave("team/app", []byte("no signature"))
			n.expectRefused(t, ref, place)

			leave("team/app", gpgSign(t, ours, payload(t, "atomic container signature", digest.String(), ref)))
			n.pull(t, ref)
			n.expectSignatureKept(t, ref)

			// Of an index, this platform's image must be signed.
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: multi})
			expectKind(t, err, ErrPolicy)
			leave("team/multi", gpgSign(t, ours, payload(t, "atomic container signature", digest.String(), multi)))
			n.pull(t, multi)
		})
	}
}

// expectSignatureKept checks that a signed image is in the store with its digest: its
// manifest is unchanged.
func (n *trust) expectSignatureKept(t *testing.T, ref string) {
	t.Helper()
	image, err := n.store.Images.Resolve(context.Background(), ref)
	if err != nil || len(image.Digests) == 0 {
		t.Errorf("image is %+v, %v", image, err)
	}
}

func ecdsaKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func sign(t *testing.T, key *ecdsa.PrivateKey, content []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(content)
	signature, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// A sigstoreSignature is what was signed, and what cosign says of it.
type sigstoreSignature struct {
	content     []byte
	annotations map[string]string
}

// attach puts a signature beside an image of the repository app, as the registry's clients
// find it.
func attach(t *testing.T, server *images.Server, digest v1.Hash, signature sigstoreSignature) {
	t.Helper()
	attachment, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer:       static.NewLayer(signature.content, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: signature.annotations,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Push(t, "app:"+digest.Algorithm+"-"+digest.Hex+".sig", mutate.ConfigMediaType(attachment, types.OCIConfigJSON))
}

func TestSigstoreSigned(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), "content")
	ref := server.Push(t, "app:v1", image)
	digest, _ := image.Digest()
	ours, theirs := ecdsaKey(t), ecdsaKey(t)
	n := newTrust(t, server, "use-sigstore-attachments: true")
	n.require(t, map[string]any{"type": "sigstoreSigned", "keyData": base64.StdEncoding.EncodeToString(publicPEM(t, ours))})
	n.expectRefused(t, ref, "requirement 1 of 1, sigstoreSigned", "no signature exists")

	leave := func(key *ecdsa.PrivateKey, digestText, name string) {
		content := payload(t, "cosign container image signature", digestText, name)
		attach(t, server, digest, sigstoreSignature{content, map[string]string{
			"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sign(t, key, content)),
		}})
	}
	leave(theirs, digest.String(), ref)
	n.expectRefused(t, ref, "sigstoreSigned")
	leave(ours, digest.String(), server.Host+"/other:v1")
	n.expectRefused(t, ref, "sigstoreSigned", "other:v1")
	leave(ours, "sha256:"+strings.Repeat("0", 64), ref)
	n.expectRefused(t, ref, "sigstoreSigned")
	leave(ours, digest.String(), ref)
	n.pull(t, ref)
	n.expectSignatureKept(t, ref)
}

// fulcio is a CA with short-lived certificates for a person's mail address, and rekor a log
// of when signatures were made: their output is enough to verify offline.
type fulcio struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pem         []byte
}

func newFulcio(t *testing.T) fulcio {
	t.Helper()
	key := ecdsaKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return fulcio{key: key, certificate: certificate, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate that was valid for ten minutes, an hour ago.
func (f fulcio) issue(t *testing.T, key *ecdsa.PrivateKey, mail, issuer string) []byte {
	t.Helper()
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), EmailAddresses: []string{mail},
		NotBefore: signedAt().Add(-5 * time.Minute), NotAfter: signedAt().Add(5 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		// Fulcio's extension "Issuer (V2)".
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value}},
	}, f.certificate, key.Public(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func signedAt() time.Time { return time.Now().Add(-time.Hour) }

// hashedRekord is what the log sees.
type hashedRekord struct{ certificate, signature, content []byte }

// rekorEntry is the log's promise that it has seen a signature at a time.
func rekorEntry(t *testing.T, log *ecdsa.PrivateKey, seen hashedRekord, at time.Time) string {
	t.Helper()
	hash := sha256.Sum256(seen.content)
	body, err := json.Marshal(map[string]any{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(hash[:])}},
			"signature": map[string]any{"content": seen.signature, "publicKey": map[string]any{"content": seen.certificate}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Marshalled, a map's keys are sorted and nothing is indented, which for these
	// values is the canonical form of RFC 8785.
	entry, err := json.Marshal(map[string]any{"body": body, "integratedTime": at.Unix(), "logIndex": 1, "logID": "00"})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := json.Marshal(map[string]any{"SignedEntryTimestamp": sign(t, log, entry), "Payload": json.RawMessage(entry)})
	if err != nil {
		t.Fatal(err)
	}
	return string(bundle)
}

func TestSigstoreSignedWithFulcioAndRekor(t *testing.T) {
	const mail, issuer = "builder@lab.test", "https://login.lab.test"
	server := images.Registry(t)
	image := small(t, images.Here(), "content")
	ref := server.Push(t, "app:v1", image)
	digest, _ := image.Digest()
	ca, otherCA := newFulcio(t), newFulcio(t)
	log, otherLog := ecdsaKey(t), ecdsaKey(t)
	n := newTrust(t, server, "use-sigstore-attachments: true")
	n.require(t, map[string]any{
		"type":               "sigstoreSigned",
		"fulcio":             map[string]any{"caData": base64.StdEncoding.EncodeToString(ca.pem), "oidcIssuer": issuer, "subjectEmail": mail},
		"rekorPublicKeyData": base64.StdEncoding.EncodeToString(publicPEM(t, log)),
	})
	content := payload(t, "cosign container image signature", digest.String(), ref)
	for _, test := range []struct {
		name string
		ca   fulcio
		log  *ecdsa.PrivateKey
		mail string
		at   time.Time
		text string // of the refusal; empty if it is accepted
	}{
		{"other person", ca, log, "somebody@lab.test", signedAt(), "builder@lab.test"},
		{"other CA", otherCA, log, mail, signedAt(), "certificate"},
		{"other log", ca, otherLog, mail, signedAt(), "Rekor"},
		{"after the certificate expired", ca, log, mail, time.Now(), "expired"},
		{"right", ca, log, mail, signedAt(), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := ecdsaKey(t)
			certificate := test.ca.issue(t, key, test.mail, issuer)
			signature := sign(t, key, content)
			attach(t, server, digest, sigstoreSignature{content, map[string]string{
				"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature),
				"dev.sigstore.cosign/certificate":    string(certificate),
				"dev.sigstore.cosign/bundle":         rekorEntry(t, test.log, hashedRekord{certificate, signature, content}, test.at),
			}})
			if test.text == "" {
				n.pull(t, ref)
				return
			}
			n.expectRefused(t, ref, "requirement 1 of 1, sigstoreSigned", test.text)
		})
	}
}

func TestReject(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	n := newTrust(t, server, "lookaside: file:///nowhere")
	n.expectRefused(t, ref, "requirement 1 of 1, reject, for the default")
	n.require(t, map[string]any{"type": "reject"})
	n.expectRefused(t, ref, "requirement 1 of 1, reject, for the scope")
}
