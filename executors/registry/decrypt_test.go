package registry

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/ocicrypt/config"
	"go.podman.io/image/v5/copy"

	"github.com/stele-runtime/stele/test/images"
)

// decryptionKey makes a key pair, in PEM.
func decryptionKey(t *testing.T) (private, public []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestEncryptedLayers(t *testing.T) {
	server := images.Registry(t)
	private, public := decryptionKey(t)
	other, _ := decryptionKey(t)
	content := strings.Repeat("content", 1000)
	plain := server.Push(t, "app:plain", small(t, images.Here(), content))
	ref := server.Host + "/app:secret"
	encryption, err := config.EncryptWithJwe([][]byte{public})
	if err != nil {
		t.Fatal(err)
	}
	convert(t, server, plain, remote(t, ref), func(o *copy.Options) {
		o.OciEncryptConfig, o.OciEncryptLayers = encryption.EncryptConfig, &[]int{}
		o.ForceManifestMIMEType = "application/vnd.oci.image.manifest.v1+json"
	})
	for _, test := range []struct {
		name string
		keys map[string][]byte // nil: no directory
		want error
		text string
	}{
		{"no directory", nil, ErrDecryption, "no decryption key"},
		{"no keys", map[string][]byte{}, ErrDecryption, "no decryption key"},
		{"another key", map[string][]byte{"other.pem": other}, ErrDecryption, ""},
		{"the key", map[string][]byte{"ours.pem": private}, nil, ""},
		{"the key among others", map[string][]byte{"a/other.pem": other, "z/ours.pem": private}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := filepath.Join(t.TempDir(), "keys")
			if test.keys != nil {
				if err := os.Mkdir(keys, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for name, key := range test.keys {
				write(t, filepath.Join(keys, name), string(key))
			}
			n := newNode(t, server, with(func(o *Options) { o.DecryptionKeysPath = keys }))
			n.pull(t, plain)
			if err := n.store.Images.Remove(context.Background(), plain); err != nil {
				t.Fatal(err)
			}
			pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				n.expectFiles(t, pulled.ImageID, map[string]string{"file0": content})
				return
			}
			expectKind(t, err, test.want)
			if !strings.Contains(fmt.Sprint(err), test.text) {
				t.Errorf("error is %v, want %q in it", err, test.text)
			}
			n.expectNothingLeft(t)
		})
	}
}

func TestBadDecryptionKeys(t *testing.T) {
	n := newNode(t, images.Registry(t))
	for name, spoil := range map[string]func(dir string) error{
		"no key": func(dir string) error { return os.WriteFile(filepath.Join(dir, "key"), []byte("s3cr"), 0o600) },
		"link":   func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "key")) },
		"huge": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "key"), make([]byte, maxKeySize+1), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := New(Options{Store: n.store.Images, Dir: t.TempDir(), PolicyPath: acceptAll(t), DecryptionKeysPath: dir})
			if err == nil || !strings.Contains(err.Error(), "decryption keys") || strings.Contains(err.Error(), "s3cr") {
				t.Errorf("error is %v", err)
			}
		})
	}
}
