package registry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/test/images"
)

// conf writes a registries.conf and returns how names resolve with it.
func conf(t *testing.T, content string) func(name string) ([]string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	options := Options{RegistriesConf: path, RegistriesConfDir: filepath.Join(dir, "none"), Dir: dir}
	return func(name string) ([]string, error) {
		found, err := resolve(options.system(), name)
		var names []string
		for _, candidate := range found {
			names = append(names, candidate.String())
		}
		return names, err
	}
}

func TestNamesArePulledAs(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	const search = `unqualified-search-registries = ["one.example", "two.example:5000"]` + "\n"
	const aliases = "[aliases]\n" + `"tool" = "tools.example/the/tool"` + "\n"
	for _, test := range []struct {
		name, conf, ref string
		want            []string // nil: an error
	}{
		{"full name", search, "r.example/a:1", []string{"r.example/a:1"}},
		{"no tag", search, "r.example/a", []string{"r.example/a:latest"}},
		{"tag and digest", search, "r.example/a:1@" + digest, []string{"r.example/a@" + digest}},
		{"localhost", search, "localhost/a", []string{"localhost/a:latest"}},
		{"port", search, "host:80/a", []string{"host:80/a:latest"}},
		{"searched", search + "short-name-mode = \"permissive\"\n", "a:1", []string{"one.example/a:1", "two.example:5000/a:1"}},
		{"searched, with a path", search + "short-name-mode = \"disabled\"\n", "b/a", []string{"one.example/b/a:latest", "two.example:5000/b/a:latest"}},
		{"ambiguous", search + "short-name-mode = \"enforcing\"\n", "a:1", nil},
		{"one registry", `unqualified-search-registries = ["docker.io"]`, "a", []string{"docker.io/library/a:latest"}},
		{"alias", search + aliases, "tool:2", []string{"tools.example/the/tool:2"}},
		{"alias without tag", search + aliases, "tool", []string{"tools.example/the/tool:latest"}},
		{"alias with digest", aliases, "tool@" + digest, []string{"tools.example/the/tool@" + digest}},
		{"nowhere to search", "", "a", nil},
		{"bad configuration", "not toml", "a", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := conf(t, test.conf)(test.ref)
			if (err != nil) != (test.want == nil) || !slices.Equal(found, test.want) {
				t.Errorf("%q is pulled as %q, %v; want %q", test.ref, found, err, test.want)
			}
		})
	}
}

func TestShortNamePullsFromTheFirstRegistryThatHasIt(t *testing.T) {
	empty, full := images.Registry(t), images.Registry(t)
	ref := full.Push(t, "app:v1", small(t, images.Here(), "content"))
	content := fmt.Sprintf(`unqualified-search-registries = [%q, %q]
short-name-mode = "permissive"
[[registry]]
location = %q
insecure = true
[[registry]]
location = %q
insecure = true
`, empty.Host, full.Host, empty.Host, full.Host)
	if err := os.WriteFile(full.RegistriesConf, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, full)
	pulled := n.pull(t, "app:v1")
	if pulled.Name != ref {
		t.Errorf("pulled as %s, want %s", pulled.Name, ref)
	}
	if image, err := n.store.Images.Resolve(context.Background(), "app:v1"); err != nil || image.ID != pulled.ImageID {
		t.Errorf("the short name stands for %q, %v", image.ID, err)
	}
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: "none:v1"})
	expectKind(t, err, ErrNotFound)
	for _, host := range []string{empty.Host, full.Host} {
		if !strings.Contains(err.Error(), host) {
			t.Errorf("the error doesn't name %s: %v", host, err)
		}
	}
}
