package registry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/test/images"
)

// write puts a file into a directory, which is made if need be.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func authFile(t *testing.T, registry, name, password string) string {
	t.Helper()
	content, err := json.Marshal(map[string]any{"auths": map[string]any{registry: map[string]any{
		"auth": base64.StdEncoding.EncodeToString([]byte(name + ":" + password)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// mirrored sends upstream.example/team to an empty place, with a mirror, each with the
// given further keys.
func mirrored(empty, mirror *images.Server, keys, mirrorKeys string) string {
	return fmt.Sprintf("[[registry]]\nprefix = \"upstream.example/team\"\nlocation = %q\ninsecure = true\n%s", empty.Host+"/empty", keys) +
		fmt.Sprintf("[[registry.mirror]]\nlocation = %q\ninsecure = true\n%s", mirror.Host+"/copies", mirrorKeys)
}

func TestMirrors(t *testing.T) {
	mirror, other := images.Registry(t), images.Registry(t)
	image := small(t, images.Here(), "content")
	mirror.Push(t, "copies/app:v1", image)
	digest, _ := image.Digest()
	byTag, byDigest := "upstream.example/team/app:v1", "upstream.example/team/app@"+digest.String()
	for _, test := range []struct {
		name, conf string
		pulled     []string
		refused    map[string]error
	}{
		{
			name: "mirror", conf: mirrored(other, mirror, "", ""),
			pulled: []string{byTag, byDigest},
		},
		{
			name: "mirror by digest only", conf: mirrored(other, mirror, "mirror-by-digest-only = true\n", ""),
			pulled:  []string{byDigest},
			refused: map[string]error{byTag: ErrNotFound},
		},
		{
			name: "mirror for tags only", conf: mirrored(other, mirror, "", "pull-from-mirror = \"tag-only\"\n"),
			pulled:  []string{byTag},
			refused: map[string]error{byDigest: ErrNotFound},
		},
		{
			name: "location", conf: fmt.Sprintf("[[registry]]\nprefix = \"*.example\"\nlocation = %q\ninsecure = true\n", mirror.Host),
			pulled: []string{"any.example/copies/app:v1"},
		},
		{
			name: "blocked", conf: fmt.Sprintf("[[registry]]\nprefix = \"upstream.example\"\nlocation = %q\ninsecure = true\nblocked = true\n", mirror.Host),
			refused: map[string]error{"upstream.example/copies/app:v1": nil},
		},
		{
			name:    "not insecure",
			conf:    fmt.Sprintf("[[registry]]\nprefix = \"upstream.example\"\nlocation = %q\n", mirror.Host),
			refused: map[string]error{"upstream.example/copies/app:v1": ErrUnavailable},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, mirror, func(o *nodeOptions) {
				o.RegistriesConf = filepath.Join(o.Root, "registries.conf")
				o.RegistriesConfDir = filepath.Join(o.Root, "registries.conf.d")
				write(t, o.RegistriesConf, "unqualified-search-registries = []\n")
				write(t, filepath.Join(o.RegistriesConfDir, "50-test.conf"), test.conf)
			})
			for _, ref := range test.pulled {
				if pulled := n.pull(t, ref); pulled.Name != ref || pulled.Digest != digest.String() {
					t.Errorf("%s was pulled as %s with %s", ref, pulled.Name, pulled.Digest)
				}
				if err := n.store.Images.Remove(context.Background(), ref); err != nil {
					t.Error(err)
				}
			}
			for ref, kind := range test.refused {
				_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
				if kind != nil {
					expectKind(t, err, kind)
				} else if err == nil || !strings.Contains(err.Error(), "blocked") {
					t.Errorf("pulling %s: %v", ref, err)
				}
			}
		})
	}
}

// A user's credentials for a registry are not for its mirrors.
func TestMirrorsGetNoCredentialsOfTheRegistry(t *testing.T) {
	mirror := images.Registry(t)
	mirror.Push(t, "app:v1", small(t, images.Here(), "content"))
	n := newNode(t, mirror, func(o *nodeOptions) {
		o.RegistriesConf = filepath.Join(o.Root, "registries.conf")
		write(t, o.RegistriesConf, fmt.Sprintf("[[registry]]\nprefix = \"upstream.example\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", mirror.Host))
	})
	for _, credentials := range []Credentials{
		{RegistryToken: "the-token"}, {Username: user, Password: secret}, {IdentityToken: "the-token"},
	} {
		var sent []string
		mirror.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if header := r.Header.Get("Authorization"); header != "" {
				sent = append(sent, header)
			} else if r.URL.Path == "/v2/" {
				challenge := `Basic realm="test"`
				if credentials.RegistryToken != "" {
					challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, mirror.Host)
				}
				w.Header().Set("WWW-Authenticate", challenge)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			} else if r.URL.Path == "/token" {
				fmt.Fprint(w, `{"token": "of-its-own"}`)
				return true
			}
			return false
		})
		_, err := n.puller.Pull(context.Background(), PullRequest{Ref: "upstream.example/app:v1", Credentials: credentials})
		for _, header := range sent {
			if encoded, ok := strings.CutPrefix(header, "Basic "); ok {
				decoded, _ := base64.StdEncoding.DecodeString(encoded)
				header = string(decoded)
			}
			if strings.Contains(header, "the-token") || strings.Contains(header, secret) || strings.Contains(header, user) {
				t.Errorf("the mirror got %q, %v", header, err)
			}
		}
		if len(sent) == 0 {
			t.Error("the mirror was not asked, so that this test shows nothing")
		}
	}
}

func TestShortNameModeOption(t *testing.T) {
	server := images.Registry(t)
	server.Push(t, "app:v1", small(t, images.Here(), "content"))
	write(t, server.RegistriesConf, fmt.Sprintf("unqualified-search-registries = [\"127.0.0.1:1\", %q]\nshort-name-mode = \"enforcing\"\n[[registry]]\nlocation = %q\ninsecure = true\n", server.Host, server.Host))
	n := newNode(t, server)
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: "app:v1"})
	expectKind(t, err, ErrInvalidReference)
	n = newNode(t, server, with(func(o *Options) { o.ShortNameMode = "disabled" }))
	if pulled := n.pull(t, "app:v1"); pulled.Name != server.Host+"/app:v1" {
		t.Errorf("pulled as %s", pulled.Name)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	n := newNode(t, images.Registry(t))
	for name, change := range map[string]func(*Options){
		"store":           func(o *Options) { o.Store = nil },
		"directory":       func(o *Options) { o.Dir = "" },
		"short name mode": func(o *Options) { o.ShortNameMode = "maybe" },
		"policies":        func(o *Options) { o.PolicyDir = "relative" },
		"credentials":     func(o *Options) { o.NamespacedAuthDir = "relative" },
		"keys":            func(o *Options) { o.DecryptionKeysPath = "relative" },
	} {
		options := Options{Store: n.store.Images, Dir: t.TempDir()}
		change(&options)
		if _, err := New(options); err == nil {
			t.Errorf("a bad option is accepted: %s", name)
		}
	}
}

func TestCertsDir(t *testing.T) {
	server, ca := images.TLSRegistry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	certs := t.TempDir()
	n := newNode(t, server, with(func(o *Options) { o.CertsDir = certs }))
	before := server.Requests()
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrUnavailable)
	if !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "tried") {
		t.Errorf("error is %v; want it to name the certificate, after one try", err)
	}
	if server.Requests() != before {
		t.Error("an unknown registry was asked")
	}
	write(t, filepath.Join(certs, server.Host, "ca.crt"), string(ca))
	n.pull(t, ref)
}

func TestNamespacedCredentials(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "team/app:v1", small(t, images.Here(), "content"))
	server.Intercept(basicAuth)
	dir := filepath.Join(t.TempDir(), "auth")
	n := newNode(t, server, with(func(o *Options) { o.NamespacedAuthDir = dir }))
	sum := sha256.Sum256([]byte(server.Host + "/team/app"))
	path := filepath.Join(dir, "shop-"+hex.EncodeToString(sum[:])+".json")
	write(t, path, authFile(t, server.Host, user, secret))

	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "other"})
	expectKind(t, err, ErrUnauthorized)
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "shop"}); err != nil {
		t.Fatal(err)
	}
	expectNoCredentials(t, dir)
	_, err = n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "shop"})
	expectKind(t, err, ErrUnauthorized)

	// Without the namespace's, the node's are used.
	write(t, filepath.Join(n.root, "auth.json"), authFile(t, server.Host, user, secret))
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "shop"}); err != nil {
		t.Error(err)
	}
	// The namespace's replace them.
	write(t, path, authFile(t, server.Host, user, "wrong-"+secret))
	_, err = n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "shop"})
	expectKind(t, err, ErrUnauthorized)
	if text := fmt.Sprint(err); strings.Contains(text, secret) || strings.Contains(text, "wrong-") {
		t.Errorf("the error shows the password: %v", err)
	}
	expectNoCredentials(t, dir)

	for _, namespace := range []string{"../shop", "a/b", "..", "Shop", strings.Repeat("a", 64)} {
		_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: namespace})
		expectKind(t, err, ErrInvalidReference)
	}

	// Leftovers of a crash are removed at the start.
	write(t, filepath.Join(dir, inUseDir, "shop-abc.json"), "{}")
	if _, err := New(Options{Store: n.store.Images, Dir: t.TempDir(), NamespacedAuthDir: dir, PolicyPath: acceptAll(t)}); err != nil {
		t.Fatal(err)
	}
	expectNoCredentials(t, dir)
}

func expectNoCredentials(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{"*.json", inUseDir + "/*"} {
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("credentials are left: %q", left)
		}
	}
}

func acceptAll(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	write(t, path, `{"default": [{"type": "insecureAcceptAnything"}]}`)
	return path
}

func TestNamespacePolicies(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "strict.json"), `{"default": [{"type": "reject"}]}`)
	write(t, filepath.Join(dir, "broken.json"), `{`)
	n := newNode(t, server, with(func(o *Options) { o.PolicyDir, o.PolicyPath = dir, acceptAll(t) }))
	for namespace, want := range map[string]string{"": "", "free": "", "strict": "requirement 1 of 1, reject, for the default in " + filepath.Join(dir, "strict.json"), "broken": "signature policy"} {
		_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: namespace})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("for namespace %q: %v, want %q", namespace, err, want)
		}
		if namespace == "strict" {
			expectKind(t, err, ErrPolicy)
		}
	}
}

// Secrets of the configuration are hidden as those of the request are.
func TestConfiguredSecretsAreHidden(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(basicAuth)
	n := newNode(t, server)
	write(t, filepath.Join(n.root, "auth.json"), authFile(t, server.Host, user, "wrong-"+secret))
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrUnauthorized)
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":wrong-" + secret))
	for _, hidden := range []string{"s3cr", "wrong-", encoded} {
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), hidden) {
			t.Errorf("the error shows %q: %v", hidden, err)
		}
	}
	if !strings.Contains(err.Error(), redact.Mark) {
		t.Errorf("the registry's echo is not in the error, so that this test shows nothing: %v", err)
	}
}

// A process reads the environment's proxy only once, so a child pulls.
func TestProxyOfTheEnvironment(t *testing.T) {
	server := images.Registry(t)
	server.Push(t, "app:v1", small(t, images.Here(), "content"))
	seen := make(chan string, 100)
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		seen <- r.Host
		return false
	})
	write(t, server.RegistriesConf, "[[registry]]\nlocation = \"far.example\"\ninsecure = true\n")
	n := newNode(t, server)
	n.store.Close()
	job := childJob{
		Options: nodeOptions{Root: n.root, RegistriesConf: server.RegistriesConf, RegistriesConfDir: server.RegistriesConfDir},
		Ref:     "far.example/app:v1", Once: true,
	}
	// The test's registry is the proxy: requests name far.example.
	if output, err := runChild(t, job, "HTTP_PROXY=http://"+server.Host, "NO_PROXY=", "HTTPS_PROXY="); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if host := <-seen; host != "far.example" {
		t.Errorf("the proxy was asked for %q", host)
	}
}

// The library's log has no credentials either. Only its debug output, which
// storage.RouteLibraryLogs drops, has a registry's answers.
func TestLogsHaveNoCredentials(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000))
	server.Push(t, "app:v1", image)
	server.Intercept(basicAuth)
	proxy := images.Front(t, server)
	ref := proxy.Host + "/app:v1"
	proxy.Spoil(func(r *http.Request) images.Fault { // so that there is something to log
		return images.Fault{Cut: strings.Contains(r.URL.Path, layerPaths(t, image)[0]) && r.Header.Get("Range") == "", After: 10}
	})
	var log strings.Builder
	library := logrus.StandardLogger()
	output, level := library.Out, library.Level
	library.SetOutput(&log)
	library.SetLevel(logrus.InfoLevel)
	defer func() {
		library.SetOutput(output)
		library.SetLevel(level)
	}()
	dir := filepath.Join(t.TempDir(), "auth")
	n := newNode(t, &proxy.Server, with(func(o *Options) {
		o.NamespacedAuthDir = dir
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}))
	wrong := "wrong-" + secret
	for _, credentials := range []Credentials{
		{Username: user, Password: secret},
		{Username: user, Password: wrong},
		{Auth: base64.StdEncoding.EncodeToString([]byte(user + ":" + wrong))},
		{RegistryToken: wrong}, {IdentityToken: wrong},
	} {
		_, _ = n.puller.Pull(context.Background(), PullRequest{Ref: ref, Credentials: credentials})
		_, _ = n.puller.Inspect(context.Background(), InspectRequest{Image: ref, Credentials: credentials})
	}
	sum := sha256.Sum256([]byte(proxy.Host + "/app"))
	write(t, filepath.Join(dir, "shop-"+hex.EncodeToString(sum[:])+".json"), authFile(t, proxy.Host, user, wrong))
	_, _ = n.puller.Pull(context.Background(), PullRequest{Ref: ref, Namespace: "shop"})
	if log.Len() == 0 {
		t.Fatal("nothing was logged, so that this test shows nothing")
	}
	for _, hidden := range []string{"s3cr", base64.StdEncoding.EncodeToString([]byte(user + ":"))[:8]} {
		if at := strings.Index(log.String(), hidden); at >= 0 {
			t.Errorf("the log shows %q: …%s…", hidden, log.String()[max(0, at-200):min(log.Len(), at+50)])
		}
	}
}
