package streaming_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/executors/streams"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign returns a certificate for 127.0.0.1, and its key.
func (a *authority) sign(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	// Renamed, as tools do that renew certificates.
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Certificates are read again when they change, and the last good ones stay until then.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	files := streaming.TLSFiles{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	first, second, clients := newAuthority(t, "first"), newAuthority(t, "second"), newAuthority(t, "clients")
	install := func(a *authority) {
		t.Helper()
		cert, key := a.sign(t)
		writeFile(t, files.Cert, cert)
		writeFile(t, files.Key, key)
	}
	install(first)
	if _, err := streaming.NewTLS(files, &tls.Config{}, quiet); err == nil || !strings.Contains(err.Error(), files.CA) {
		t.Errorf("without the CA: %v", err)
	}
	writeFile(t, files.CA, clients.pem)
	secure, err := streaming.NewTLS(files, &tls.Config{MinVersion: tls.VersionTLS13}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(c *streaming.Config) { c.TLS = secure })
	clientCert, clientKey := clients.sign(t)
	try := func(config rest.TLSClientConfig) error {
		t.Helper()
		address := l.must(l.Exec(streaming.Command{Stdout: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
			_, err := s.Stdout.Write([]byte("secret"))
			return 0, err
		}}))
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" {
			t.Fatalf("%s, %v", address, err)
		}
		for i, tr := range transports {
			if i > 0 && tr.name != "WebSocket" {
				continue
			}
			if i > 0 {
				if u, err = url.Parse(l.must(l.Exec(streaming.Command{Stdout: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
					_, err := s.Stdout.Write([]byte("secret"))
					return 0, err
				}}))); err != nil {
					t.Fatal(err)
				}
			}
			executor, err := tr.dial(&rest.Config{TLSClientConfig: config}, u)
			if err != nil {
				return err
			}
			var stdout bytes.Buffer
			if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &stdout}); err != nil {
				return err
			}
			if stdout.String() != "secret" {
				t.Errorf("%s: %q", tr.name, stdout.String())
			}
		}
		return nil
	}
	trusting := func(a *authority) rest.TLSClientConfig {
		return rest.TLSClientConfig{CAData: a.pem, CertData: clientCert, KeyData: clientKey}
	}
	if err := try(trusting(first)); err != nil {
		t.Error(err)
	}
	if err := try(rest.TLSClientConfig{CAData: first.pem}); err == nil {
		t.Error("a client without a certificate is served")
	}
	strangerCert, strangerKey := first.sign(t)
	if err := try(rest.TLSClientConfig{CAData: first.pem, CertData: strangerCert, KeyData: strangerKey}); err == nil {
		t.Error("a client with another authority's certificate is served")
	}
	install(second)
	if err := try(trusting(second)); err != nil {
		t.Errorf("the certificate was not read again: %v", err)
	}
	if err := try(trusting(first)); err == nil {
		t.Error("the old certificate is still shown")
	}
	// Half written.
	cert, key := first.sign(t)
	writeFile(t, files.Cert, cert)
	if err := try(trusting(second)); err != nil {
		t.Errorf("with a certificate without its key: %v", err)
	}
	writeFile(t, files.Key, key)
	if err := try(trusting(first)); err != nil {
		t.Errorf("after the key: %v", err)
	}
	// The clients' authority, too.
	writeFile(t, files.CA, first.pem)
	if err := try(trusting(first)); err == nil {
		t.Error("a client of the old authority is served")
	}
	// Below the least version.
	conn, err := tls.Dial("tcp", l.Address().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
}
