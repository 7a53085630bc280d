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

// secret is a command whose output is a word.
func (l *lab) secret() *url.URL {
	l.t.Helper()
	u, err := url.Parse(l.must(l.Exec(streaming.Command{Stdout: true, Run: func(_ context.Context, s streams.Stdio) (int, error) {
		_, err := s.Stdout.Write([]byte("secret"))
		return 0, err
	}})))
	if err != nil || u.Scheme != "https" {
		l.t.Fatalf("%s, %v", u, err)
	}
	return u
}

// speak reports whether clients of SPDY and WebSocket get the word by TLS.
func (l *lab) speak(config rest.TLSClientConfig) error {
	l.t.Helper()
	for _, tr := range transports {
		if tr.name != "SPDY" && tr.name != "WebSocket" {
			continue
		}
		executor, err := tr.dial(&rest.Config{TLSClientConfig: config}, l.secret())
		if err != nil {
			return err
		}
		var stdout bytes.Buffer
		if err := executor.StreamWithContext(l.t.Context(), remotecommand.StreamOptions{Stdout: &stdout}); err != nil {
			return err
		}
		if stdout.String() != "secret" {
			l.t.Errorf("%s: %q", tr.name, stdout.String())
		}
	}
	return nil
}

// tlsLab has files and authorities.
type tlsLab struct {
	*lab
	files                  streaming.TLSFiles
	first, second, clients *authority
	clientCert, clientKey  []byte
}

func newTLSLab(t *testing.T) *tlsLab {
	t.Helper()
	dir := t.TempDir()
	x := &tlsLab{
		files: streaming.TLSFiles{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")},
		first: newAuthority(t, "first"), second: newAuthority(t, "second"), clients: newAuthority(t, "clients"),
	}
	x.clientCert, x.clientKey = x.clients.sign(t)
	x.install(t, x.first)
	if _, err := streaming.NewTLS(x.files, &tls.Config{}, quiet); err == nil || !strings.Contains(err.Error(), x.files.CA) {
		t.Errorf("without the CA: %v", err)
	}
	writeFile(t, x.files.CA, x.clients.pem)
	secure, err := streaming.NewTLS(x.files, &tls.Config{MinVersion: tls.VersionTLS13}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	x.lab = newLab(t, func(c *streaming.Config) { c.TLS = secure })
	return x
}

// install writes a new certificate of an authority, and its key.
func (x *tlsLab) install(t *testing.T, a *authority) {
	t.Helper()
	cert, key := a.sign(t)
	writeFile(t, x.files.Cert, cert)
	writeFile(t, x.files.Key, key)
}

// trusting is a client that knows one authority of servers.
func (x *tlsLab) trusting(a *authority) rest.TLSClientConfig {
	return rest.TLSClientConfig{CAData: a.pem, CertData: x.clientCert, KeyData: x.clientKey}
}

func TestTLSClients(t *testing.T) {
	x := newTLSLab(t)
	if err := x.speak(x.trusting(x.first)); err != nil {
		t.Error(err)
	}
	if err := x.speak(rest.TLSClientConfig{CAData: x.first.pem}); err == nil {
		t.Error("a client without a certificate is served")
	}
	cert, key := x.first.sign(t)
	if err := x.speak(rest.TLSClientConfig{CAData: x.first.pem, CertData: cert, KeyData: key}); err == nil {
		t.Error("a client with another authority's certificate is served")
	}
	// Below the least version.
	conn, err := tls.Dial("tcp", x.Address().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

// Certificates are read again when they change, and the last good ones stay until then.
func TestTLSFilesChange(t *testing.T) {
	x := newTLSLab(t)
	x.install(t, x.second)
	if err := x.speak(x.trusting(x.second)); err != nil {
		t.Errorf("the certificate was not read again: %v", err)
	}
	if err := x.speak(x.trusting(x.first)); err == nil {
		t.Error("the old certificate is still shown")
	}
	// Half written.
	cert, key := x.first.sign(t)
	writeFile(t, x.files.Cert, cert)
	if err := x.speak(x.trusting(x.second)); err != nil {
		t.Errorf("with a certificate without its key: %v", err)
	}
	writeFile(t, x.files.Key, key)
	if err := x.speak(x.trusting(x.first)); err != nil {
		t.Errorf("after the key: %v", err)
	}
	// The clients' authority, too.
	writeFile(t, x.files.CA, x.first.pem)
	if err := x.speak(x.trusting(x.first)); err == nil {
		t.Error("a client of the old authority is served")
	}
}
