package images

import (
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

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Server is a registry on loopback that speaks plain HTTP.
type Server struct {
	// Host is "127.0.0.1:port".
	Host string
	// RegistriesConf is the path of a registries.conf that allows plain HTTP to Host
	// and completes names without a registry with it.
	RegistriesConf string
	// RegistriesConfDir is the path of an empty registries.conf.d, so that the
	// machine's own doesn't count.
	RegistriesConfDir string

	intercept atomic.Pointer[Intercept]
	requests  atomic.Int64
}

// Intercept sees each request before the registry does, and returns true if it
// answered it. It may wrap what it is given only by answering itself.
type Intercept func(w http.ResponseWriter, r *http.Request) bool

// Registry starts a registry that ends with the test.
func Registry(t testing.TB) *Server {
	t.Helper()
	s := &Server{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if intercept := s.intercept.Load(); intercept != nil && (*intercept)(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.Host = strings.TrimPrefix(server.URL, "http://")

	dir := t.TempDir()
	s.RegistriesConf = filepath.Join(dir, "registries.conf")
	s.RegistriesConfDir = filepath.Join(dir, "registries.conf.d")
	conf := fmt.Sprintf("unqualified-search-registries = [%q]\n\n[[registry]]\nlocation = %q\ninsecure = true\n", s.Host, s.Host)
	if err := os.WriteFile(s.RegistriesConf, []byte(conf), 0o600); err != nil {
		t.Fatalf("write registries.conf: %v", err)
	}
	if err := os.Mkdir(s.RegistriesConfDir, 0o700); err != nil {
		t.Fatalf("make registries.conf.d: %v", err)
	}
	return s
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

// Requests says how many requests have come in.
func (s *Server) Requests() int64 { return s.requests.Load() }

// Push puts an image under "path:tag" and returns its full name.
func (s *Server) Push(t testing.TB, pathAndTag string, image v1.Image) string {
	t.Helper()
	tag := s.tag(t, pathAndTag)
	if err := remote.Write(tag, image); err != nil {
		t.Fatalf("push %s: %v", tag, err)
	}
	return tag.String()
}

// PushIndex puts an image index under "path:tag" and returns its full name.
func (s *Server) PushIndex(t testing.TB, pathAndTag string, index v1.ImageIndex) string {
	t.Helper()
	tag := s.tag(t, pathAndTag)
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatalf("push index %s: %v", tag, err)
	}
	return tag.String()
}

func (s *Server) tag(t testing.TB, pathAndTag string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(s.Host+"/"+pathAndTag, name.Insecure)
	if err != nil {
		t.Fatalf("name %s/%s: %v", s.Host, pathAndTag, err)
	}
	return tag
}
