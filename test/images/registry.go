package images

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.podman.io/image/v5/manifest"
)

// Server is a registry on loopback, which speaks plain HTTP unless TLSRegistry made it.
type Server struct {
	// Host is "127.0.0.1:port".
	Host string
	// RegistriesConf is the path of a registries.conf that completes short names with Host,
	// and allows plain HTTP to it if it speaks that.
	RegistriesConf string
	// RegistriesConfDir is the path of an empty registries.conf.d, so that the machine's
	// own is not read.
	RegistriesConfDir string

	intercept atomic.Pointer[Intercept]
	requests  atomic.Int64
	transport http.RoundTripper // nil if it speaks plain HTTP
}

// Intercept sees each request before the registry does, and returns true if it has answered
// it.
type Intercept func(w http.ResponseWriter, r *http.Request) bool

// Registry starts a registry that ends with the test.
func Registry(t testing.TB) *Server {
	t.Helper()
	s := &Server{}
	server := httptest.NewServer(s.handler())
	t.Cleanup(server.Close)
	s.Host = strings.TrimPrefix(server.URL, "http://")
	s.configure(t)
	return s
}

// TLSRegistry starts a registry that speaks TLS only, with a certificate of its own
// CA, whose certificate it returns in PEM. RegistriesConf says nothing about TLS.
func TLSRegistry(t testing.TB) (s *Server, ca []byte) {
	t.Helper()
	s = &Server{}
	server := httptest.NewUnstartedServer(s.handler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s.Host = strings.TrimPrefix(server.URL, "https://")
	s.transport = server.Client().Transport
	s.configure(t)
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func (s *Server) handler() http.Handler {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if intercept := s.intercept.Load(); intercept != nil && (*intercept)(w, r) {
			return
		}
		if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
			serveRange(inner, w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// serveRange answers requests for any ranges, as real registries do; the one underneath
// knows only simple ones.
func serveRange(inner http.Handler, w http.ResponseWriter, r *http.Request) {
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	answer := httptest.NewRecorder()
	inner.ServeHTTP(answer, whole)
	if answer.Code != http.StatusOK {
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(answer.Body.Bytes()))
}

// configure writes a configuration for the registry's users.
func (s *Server) configure(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	s.RegistriesConf = filepath.Join(dir, "registries.conf")
	s.RegistriesConfDir = filepath.Join(dir, "registries.conf.d")
	conf := fmt.Sprintf("unqualified-search-registries = [%q]\n", s.Host)
	if s.transport == nil {
		conf += fmt.Sprintf("\n[[registry]]\nlocation = %q\ninsecure = true\n", s.Host)
	}
	if err := os.WriteFile(s.RegistriesConf, []byte(conf), 0o600); err != nil {
		t.Fatalf("write registries.conf: %v", err)
	}
	if err := os.Mkdir(s.RegistriesConfDir, 0o700); err != nil {
		t.Fatalf("make registries.conf.d: %v", err)
	}
}

// Intercept lets tests make the registry fail: from now on f sees each request
// first. Nil ends it.
func (s *Server) Intercept(f Intercept) {
	if f == nil {
		s.intercept.Store(nil)
		return
	}
	s.intercept.Store(&f)
}

// Requests returns the number of requests so far.
func (s *Server) Requests() int64 { return s.requests.Load() }

// Push puts an image under "path:tag" and returns its full name.
func (s *Server) Push(t testing.TB, pathAndTag string, image v1.Image) string {
	t.Helper()
	tag := s.tag(t, pathAndTag)
	if err := remote.Write(tag, image, s.remote()...); err != nil {
		t.Fatalf("push %s: %v", tag, err)
	}
	return tag.String()
}

// PushIndex puts an image index under "path:tag" and returns its full name.
func (s *Server) PushIndex(t testing.TB, pathAndTag string, index v1.ImageIndex) string {
	t.Helper()
	tag := s.tag(t, pathAndTag)
	if err := remote.WriteIndex(tag, index, s.remote()...); err != nil {
		t.Fatalf("push index %s: %v", tag, err)
	}
	return tag.String()
}

func (s *Server) tag(t testing.TB, pathAndTag string) name.Tag {
	t.Helper()
	var options []name.Option
	if s.transport == nil {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(s.Host+"/"+pathAndTag, options...)
	if err != nil {
		t.Fatalf("name %s/%s: %v", s.Host, pathAndTag, err)
	}
	return tag
}

func (s *Server) remote() []remote.Option {
	if s.transport == nil {
		return nil
	}
	return []remote.Option{remote.WithTransport(s.transport)}
}

// Digest returns the digest of a name's manifest as clients know it. For schema 1 it is not
// the digest of the transferred bytes, which have signatures.
func (s *Server) Digest(t testing.TB, ref string) string {
	t.Helper()
	source, err := transport(t, ref).NewImageSource(t.Context(), s.system(t))
	if err != nil {
		t.Fatalf("digest of %s: %v", ref, err)
	}
	defer source.Close()
	content, _, err := source.GetManifest(t.Context(), nil)
	if err != nil {
		t.Fatalf("digest of %s: %v", ref, err)
	}
	digest, err := manifest.Digest(content)
	if err != nil {
		t.Fatalf("digest of %s: %v", ref, err)
	}
	return digest.String()
}
