package streaming

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// TLS is how a server speaks TLS. Its files are read again when they change.
type TLS struct {
	files  TLSFiles
	base   *tls.Config
	logger *slog.Logger

	mu    sync.Mutex
	stamp [3]os.FileInfo
	last  *tls.Config
}

// TLSFiles are paths of PEM files.
type TLSFiles struct {
	// Cert and Key are the server's. CA has those whose certificates clients must show;
	// empty: clients need none.
	Cert, Key, CA string
}

// NewTLS reads the files. Of base it takes versions and cipher suites.
func NewTLS(files TLSFiles, base *tls.Config, logger *slog.Logger) (*TLS, error) {
	t := &TLS{files: files, base: base, logger: logger}
	// The handlers take over connections, which HTTP/2 does not allow.
	base.NextProtos = []string{"http/1.1"}
	t.stamp = t.stat()
	var err error
	if t.last, err = t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

// config is for a listener.
func (t *TLS) config() *tls.Config {
	c := t.base.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current(), nil }
	return c
}

// current returns the configuration from the files as they are. If they can't be used, as
// between the writing of one and of the other, the last one stays.
func (t *TLS) current() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.stat()
	if !changed(now, t.stamp) {
		return t.last
	}
	read, err := t.read()
	if err != nil {
		t.logger.Warn("changed certificates of the streaming server can't be used; the last ones stay", "error", err)
	} else {
		t.last = read
		t.logger.Info("the streaming server has read its certificates again", "cert", t.files.Cert)
	}
	// What was stamped before reading: a change since then shows the next time.
	t.stamp = now
	return t.last
}

func (t *TLS) stat() (stamp [3]os.FileInfo) {
	for i, path := range []string{t.files.Cert, t.files.Key, t.files.CA} {
		if path != "" {
			stamp[i], _ = os.Stat(path) // nil for a file that is not there
		}
	}
	return stamp
}

func changed(a, b [3]os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return true
		}
		if a[i] != nil && !(os.SameFile(a[i], b[i]) && a[i].ModTime().Equal(b[i].ModTime()) && a[i].Size() == b[i].Size()) {
			return true
		}
	}
	return false
}

func (t *TLS) read() (*tls.Config, error) {
	c := t.base.Clone()
	cert, err := tls.LoadX509KeyPair(t.files.Cert, t.files.Key)
	if err != nil {
		return nil, fmt.Errorf("read the streaming server's certificate (%s, %s): %w", t.files.Cert, t.files.Key, err)
	}
	c.Certificates = []tls.Certificate{cert}
	if t.files.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.files.CA)
	if err != nil {
		return nil, fmt.Errorf("read the CA of the streaming server's clients: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA of the streaming server's clients: %s has no certificate", t.files.CA)
	}
	return c, nil
}
