package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// puller is the user that pulls; it has several passwords.
const puller = "puller"

// TestSecretsOfPulls: a pull's credentials are sent to the registry, and are nowhere else:
// not in the log, the history, the metrics, answers, or files.
func TestSecretsOfPulls(t *testing.T) {
	t.Parallel()
	dir, metrics := t.TempDir(), freeAddress(t)
	authFile, namespaces := filepath.Join(dir, "auth.json"), filepath.Join(dir, "namespaces")
	h := New(t, programs, Options{
		LogLevel: "debug",
		Image:    fmt.Sprintf("pull_retries = 0\nglobal_auth_file = %q\nnamespaced_auth_dir = %q\n", authFile, namespaces),
		Config:   fmt.Sprintf("[metrics]\nlisten = %q\n", metrics),
	})
	s := newSecrets(t, h)
	s.guard()
	write := func(path, password string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		h.write(path, s.authFile(password))
	}
	perNamespace := func(namespace string) string {
		sum := sha256.Sum256([]byte(s.basic.Host + "/secret/app"))
		return filepath.Join(namespaces, namespace+"-"+hex.EncodeToString(sum[:])+".json")
	}

	for _, right := range []bool{true, false} {
		s.right = right
		s.pull(t, h, s.basic, &runtimeapi.AuthConfig{Username: puller, Password: s.password("cri")}, "")
		s.pull(t, h, s.basic, &runtimeapi.AuthConfig{Auth: s.encoded(s.password("auth"))}, "")
		s.pull(t, h, s.bearer, &runtimeapi.AuthConfig{RegistryToken: s.token("registry")}, "")
		s.pull(t, h, s.bearer, &runtimeapi.AuthConfig{IdentityToken: s.token("identity")}, "")
		write(authFile, s.password("file"))
		s.pull(t, h, s.basic, nil, "")
		_, err := h.stele("image", "inspect", "docker://"+s.ref(s.basic))
		if (err == nil) != right {
			t.Errorf("inspecting with the auth file's credentials: %v", err)
		}
		write(perNamespace("shop"), s.password("namespace"))
		s.pull(t, h, s.basic, nil, "shop")
	}
	for secret := range s.given {
		if !s.sent[secret] {
			t.Errorf("the registry was never sent %q, so that this test shows nothing of it", secret)
		}
	}

	s.texts["the log"] = tail(h.Daemon.process.log, 1_000_000)
	for _, command := range []string{
		"events", "events --json", "events --json --environment", "image ls", "image inspect " + s.ref(s.basic), "inspect image " + s.ref(s.basic), "inspect --log-stats",
	} {
		s.texts["stele "+command] = h.Stele(strings.Fields(command)...)
	}
	for name, answer := range h.verboseAnswers(s.ref(s.basic)) {
		s.texts[name] = answer
	}
	s.texts["the metrics"] = get(t, "http://"+metrics+"/metrics")
	h.Daemon.Stop()
	for _, dir := range []string{h.Root, h.State} {
		s.addFiles(t, dir)
	}
	h.Daemon.Start()
	s.expectNowhere(t)
	h.RemoveImage(s.ref(s.basic))
	h.RemoveImage(s.ref(s.bearer))
}

// secrets are the credentials for two registries: one wants passwords, the other tokens. A
// registry that refuses sends back the credentials, as hostile ones do.
type secrets struct {
	basic, bearer *images.Proxy
	// right says whether the secrets now in use are the right ones.
	right bool
	// texts are where the secrets must not be.
	texts map[string]string

	mu sync.Mutex
	// given are all secrets with their spellings, sent those that reached a registry.
	given map[string][]string
	sent  map[string]bool
}

func newSecrets(t *testing.T, h *Harness) *secrets {
	t.Helper()
	s := &secrets{
		basic: images.Front(t, h.Registry), bearer: images.Front(t, h.Registry),
		given: map[string][]string{}, sent: map[string]bool{}, texts: map[string]string{},
	}
	conf := ""
	for _, proxy := range []*images.Proxy{s.basic, s.bearer} {
		conf += fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", proxy.Host)
	}
	h.write(filepath.Join(h.Registry.RegistriesConfDir, "50-secret.conf"), conf)
	h.Registry.Push(t, "secret/app:v1", images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "content", Mode: 0o644, Content: []byte("x")}}}}))
	return s
}

func (s *secrets) ref(at *images.Proxy) string { return at.Host + "/secret/app:v1" }

// token is a secret for a purpose.
func (s *secrets) token(purpose string) string {
	token := fmt.Sprintf("hidden-%s-%t-0a1b2c", purpose, s.right)
	s.give(token)
	return token
}

// password is one for a purpose, with a token in its middle, which no quoting changes.
func (s *secrets) password(purpose string) string {
	token := fmt.Sprintf("hidden-%s-%t-0a1b2c", purpose, s.right)
	password := `p:/"` + token + `" &`
	s.give(token, s.encoded(password))
	return password
}

func (s *secrets) give(secret string, more ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given[secret] = append(more, secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)))
}

func (s *secrets) encoded(password string) string {
	return base64.StdEncoding.EncodeToString([]byte(puller + ":" + password))
}

func (s *secrets) authFile(password string) string {
	content, _ := json.Marshal(map[string]any{"auths": map[string]any{s.basic.Host: map[string]any{"auth": s.encoded(password)}}}) // strings only
	return string(content)
}

// guard makes the registries ask for the secrets.
func (s *secrets) guard() {
	const access = "hidden-access-token-0a1b2c"
	s.give(access)
	refuse := func(challenge string, sent ...string) images.Fault {
		body, _ := json.Marshal(map[string]any{"errors": []any{map[string]any{"code": "UNAUTHORIZED", "message": "not for " + strings.Join(sent, " or ")}}})
		return images.Fault{Status: 401, Header: http.Header{"WWW-Authenticate": {challenge}, "Content-Type": {"application/json"}}, Body: string(body)}
	}
	note := func(sent string) (accepted bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for secret := range s.given {
			if strings.Contains(sent, secret) {
				s.sent[secret] = true
				accepted = accepted || strings.Contains(secret, "-true-") || secret == access
			}
		}
		return accepted
	}
	s.basic.Spoil(func(r *http.Request) images.Fault {
		_, password, _ := r.BasicAuth()
		if note(password) {
			return images.Fault{}
		}
		return refuse(`Basic realm="test"`, password, r.Header.Get("Authorization"))
	})
	s.bearer.Spoil(func(r *http.Request) images.Fault {
		challenge := fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, s.bearer.Host)
		sent := r.Header.Get("Authorization")
		if r.URL.Path == "/token" {
			if identity := r.PostFormValue("refresh_token"); !note(identity) {
				return refuse(challenge, identity, sent)
			}
			return images.Fault{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: fmt.Sprintf(`{"token": %q, "access_token": %q}`, access, access)}
		}
		if note(sent) {
			return images.Fault{}
		}
		return refuse(challenge, sent)
	})
}

// pull pulls with credentials, which are right or not.
func (s *secrets) pull(t *testing.T, h *Harness, at *images.Proxy, auth *runtimeapi.AuthConfig, namespace string) {
	t.Helper()
	pod := h.PodConfig("secret")
	pod.Metadata.Namespace = namespace
	if namespace == "" {
		pod = nil
	}
	_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: s.ref(at)}, Auth: auth, SandboxConfig: pod})
	if s.right {
		if err != nil {
			t.Errorf("pull with the right credentials: %v", err)
		}
		return
	}
	h.Refused(err, codes.Unauthenticated, s.ref(at))
	s.texts[fmt.Sprintf("the error of pull %d", len(s.texts))] = fmt.Sprint(err)
}

// verboseAnswers returns the most verbose answers of the services.
func (c *Client) verboseAnswers(image string) map[string]string {
	c.t.Helper()
	status, err := c.Runtime.Status(c.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		c.t.Fatal(err)
	}
	found, err := c.Images.ImageStatus(c.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}, Verbose: true})
	if err != nil {
		c.t.Fatal(err)
	}
	all, err := c.Images.ListImages(c.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return map[string]string{"Status": status.String(), "ImageStatus": found.String(), "ListImages": all.String()}
}

// addFiles adds the content of all files below a directory, except those of images.
func (s *secrets) addFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "diff" {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		s.texts[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// expectNowhere looks for every secret in every spelling.
func (s *secrets) expectNowhere(t *testing.T) {
	t.Helper()
	named := 0
	for where, text := range s.texts {
		if strings.Contains(text, s.ref(s.basic)) || strings.Contains(text, s.ref(s.bearer)) {
			named++
		}
		for _, spellings := range s.given {
			for _, spelling := range spellings {
				if at := strings.Index(text, spelling); at >= 0 {
					t.Errorf("%s has %q: …%q…", where, spelling, text[max(0, at-200):min(len(text), at+200)])
				}
			}
		}
	}
	// The errors, the log, the history and its file name at least the images.
	if named < 10 {
		t.Errorf("only %d of %d texts name the images, so that this test shows little", named, len(s.texts))
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !bytes.Contains(content, []byte("stele_")) {
		t.Fatalf("%s: %s, %d bytes, %v", url, answer.Status, len(content), err)
	}
	return string(content)
}
