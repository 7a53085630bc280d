package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

func TestFailuresAreToldApart(t *testing.T) {
	server := images.Registry(t)
	app := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	foreign := server.Push(t, "foreign:v1", small(t, v1.Platform{OS: "windows", Architecture: runtime.GOARCH}, "content"))
	foreignIndex := server.PushIndex(t, "foreign:multi", images.Index(t, images.OCI, small(t, images.Elsewhere(), "content")))
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()

	status := func(code int, body string) images.Intercept {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	for _, test := range []struct {
		name, ref string
		intercept images.Intercept
		want      error
		text      string
	}{
		{name: "unknown tag", ref: server.Host + "/app:v2", want: ErrNotFound},
		{name: "unknown repository", ref: server.Host + "/none:v1", want: ErrNotFound},
		{name: "unknown digest", ref: server.Host + "/app@sha256:" + strings.Repeat("0", 64), want: ErrNotFound},
		{name: "404 without a body", ref: app, intercept: status(404, ""), want: ErrNotFound},
		{name: "404 with a page", ref: app, intercept: status(404, "<html>nothing here</html>"), want: ErrNotFound},
		{name: "403", ref: app, intercept: status(403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`), want: ErrUnauthorized},
		{name: "401 without a challenge", ref: app, intercept: status(401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`), want: ErrUnauthorized},
		{name: "500", ref: app, intercept: status(500, "oh"), want: ErrUnavailable},
		{name: "503", ref: app, intercept: status(503, `{"errors":[{"code":"UNAVAILABLE","message":"service unavailable"}]}`), want: ErrUnavailable},
		{name: "nobody listens", ref: nobody.Addr().String() + "/app:v1", want: ErrUnavailable},
		{name: "other operating system", ref: foreign, want: ErrUnsupportedPlatform, text: "windows"},
		{name: "index without our platform", ref: foreignIndex, want: ErrUnsupportedPlatform, text: images.Elsewhere().Architecture},
		{name: "no name", ref: "", want: ErrInvalidReference},
		{name: "bad name", ref: server.Host + "/UPPER:v1", want: ErrInvalidReference},
		{name: "id", ref: strings.Repeat("0", 64), want: ErrInvalidReference},
		{name: "line break", ref: "app\nname", want: ErrInvalidReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, server)
			server.Intercept(test.intercept)
			defer server.Intercept(nil)
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: test.ref})
			expectKind(t, err, test.want)
			if !strings.Contains(fmt.Sprint(err), test.text) {
				t.Errorf("error %q doesn't say %q", err, test.text)
			}
			n.expectNoImages(t)
		})
	}
}

// The library retries for some time when it is rate limited, so this has a test of its own.
func TestRateLimit(t *testing.T) {
	server := images.Registry(t)
	app := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	n := newNode(t, server)
	server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: app})
	expectKind(t, err, ErrRateLimited)
	n.expectNoImages(t)
}

func TestCutLayerIsNotStored(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 10_000))
	app := server.Push(t, "app:v1", image)
	layers, _ := image.Layers()
	layer, _ := layers[0].Digest()
	n := newNode(t, server)
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) {
			return false
		}
		fmt.Fprint(w, "this is not the layer")
		return true
	})
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: app}); err == nil {
		t.Error("a wrong layer was accepted")
	}
	n.expectNoImages(t)
	server.Intercept(nil)
	n.pull(t, app)
}

const (
	user   = "puller"
	secret = `s3cr:t/"pass word`
)

// basicAuth accepts only one user, and sends back the credentials, as a hostile registry
// could.
func basicAuth(w http.ResponseWriter, r *http.Request) bool {
	if name, password, ok := r.BasicAuth(); ok && name == user && password == secret {
		return false
	}
	_, sent, _ := r.BasicAuth()
	w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	body, _ := json.Marshal(map[string]any{"errors": []any{map[string]any{
		"code": "UNAUTHORIZED", "message": "no entry for " + sent + " / " + r.Header.Get("Authorization"),
	}}})
	_, _ = w.Write(body)
	return true
}

func TestBasicAuth(t *testing.T) {
	server := images.Registry(t)
	app := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(basicAuth)
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
	for _, test := range []struct {
		name        string
		credentials Credentials
		allowed     bool
	}{
		{"none", Credentials{}, false},
		{"right", Credentials{Username: user, Password: secret}, true},
		{"right, encoded", Credentials{Auth: encoded}, true},
		{"right, for this server", Credentials{Username: user, Password: secret, ServerAddress: "http://" + server.Host + "/v2/"}, true},
		{"right, for another server", Credentials{Username: user, Password: secret, ServerAddress: "other.example"}, false},
		{"wrong password", Credentials{Username: user, Password: "wrong-" + secret}, false},
		{"wrong, encoded", Credentials{Auth: base64.StdEncoding.EncodeToString([]byte(user + ":wrong-" + secret))}, false},
		{"not base64", Credentials{Auth: secret}, false},
		{"no colon", Credentials{Auth: base64.StdEncoding.EncodeToString([]byte("s3cr"))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, server)
			_, err := n.puller.Pull(context.Background(), PullRequest{Ref: app, Credentials: test.credentials})
			if test.allowed {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			expectKind(t, err, ErrUnauthorized)
			for _, hidden := range []string{secret, "wrong-", encoded, test.credentials.Auth, "s3cr"} {
				if hidden != "" && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), hidden) {
					t.Errorf("the error shows %q: %v", hidden, err)
				}
			}
			n.expectNoImages(t)
		})
	}
}

func TestAuthFileCountsWhenThePullBringsNoCredentials(t *testing.T) {
	server := images.Registry(t)
	app := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(basicAuth)
	n := newNode(t, server)
	content, err := json.Marshal(map[string]any{"auths": map[string]any{server.Host: map[string]any{
		"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + secret)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.root, "auth.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	n.pull(t, app)
}

func TestRegistryTokenIsSentAndHidden(t *testing.T) {
	server := images.Registry(t)
	app := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer right-token" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, server.Host))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, r.Header.Get("Authorization"))
		return true
	})
	n := newNode(t, server)
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: app, Credentials: Credentials{RegistryToken: "wrong-token"}})
	expectKind(t, err, ErrUnauthorized)
	if strings.Contains(fmt.Sprint(err), "wrong-token") {
		t.Errorf("the error shows the token: %v", err)
	}
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: app, Credentials: Credentials{RegistryToken: "right-token"}}); err != nil {
		t.Error(err)
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	credentials := Credentials{Username: user, Password: secret, Auth: "auth", IdentityToken: "identity", RegistryToken: "token"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("pull", "credentials", credentials, "request", PullRequest{Credentials: credentials})
	for _, text := range []string{
		log.String(), fmt.Sprint(credentials), fmt.Sprintf("%v %+v %#v %s %q", credentials, credentials, credentials, credentials, credentials),
	} {
		for _, hidden := range []string{"s3cr", "auth=", "identity", "token", user} {
			if strings.Contains(text, hidden) {
				t.Errorf("%q shows %q", text, hidden)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	server := images.Registry(t)
	allowed := server.Push(t, "allowed/app:v1", small(t, images.Here(), "content"))
	refused := server.Push(t, "refused/app:v1", small(t, images.Here(), "content"))
	policy := fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {"%s/allowed": [{"type": "insecureAcceptAnything"}]}}}`, server.Host)
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, server, func(o *nodeOptions) { o.PolicyPath = path })
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: refused})
	expectKind(t, err, ErrPolicy)
	n.expectNoImages(t)
	n.pull(t, allowed)

	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.puller.Pull(context.Background(), PullRequest{Ref: allowed}); err == nil {
		t.Error("a pull with an unreadable policy succeeded")
	}
	if _, err := New(Options{Store: n.store.Images, Dir: t.TempDir(), PolicyPath: path}); err == nil {
		t.Error("an unreadable policy is accepted at the start")
	}
}

// Registries redirect clients for layers, with a signature that opens that place to
// everybody.
func TestSignedAddressesAreNotTold(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server, with(func(o *Options) { o.Retries = -1 }))
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			// Nobody listens there.
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere?signature=hunter2", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	expectKind(t, err, ErrUnavailable)
	if text := fmt.Sprint(err); !strings.Contains(text, "http://127.0.0.1:1/elsewhere?[redacted]") || strings.Contains(text, "hunter2") {
		t.Errorf("error is %s", text)
	}
}
