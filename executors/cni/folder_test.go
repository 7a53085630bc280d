package cni

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// must fails the test for the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// named returns a configuration of another name.
func (n *testNet) named(name string) map[string]any {
	list := n.list(setup{})
	list["name"] = name
	return list
}

func TestReload(t *testing.T) {
	n := newNet(t, setup{})
	n.configure("05-first.conflist", n.named("first"))
	n.wantReload("first")
	n.configure("05-first.conflist", n.named("renamed"))
	n.wantReload("renamed")

	n.configure("05-first.conflist", []byte(`{"name": "half`))
	n.wantReload(n.name) // the next file that is valid
	must(t, os.Remove(filepath.Join(n.conf, "10-test.conflist")))
	if err := n.wantReload(""); !strings.Contains(err.Error(), "05-first.conflist") {
		t.Errorf("%v, want one that names the file that is not valid", err)
	}
	must(t, os.Remove(filepath.Join(n.conf, "05-first.conflist")))
	if err := n.wantReload(""); strings.Contains(err.Error(), "05-first.conflist") {
		t.Errorf("%v, want one that does not name the file that is gone", err)
	}
	n.configure("20-later.conflist", n.named("later"))
	n.wantReload("later")
}

func TestReloadOfFoldersThatComeAndGo(t *testing.T) {
	n := newNet(t, setup{})
	above := filepath.Join(filepath.Dir(n.conf), "etc", "cni")
	n.conf = filepath.Join(above, "net.d")
	n.restart() // with a folder that is two levels away from being there

	must(t, os.MkdirAll(n.conf, 0o755))
	n.configure("a.conflist", n.named("created"))
	n.wantReload("created")

	must(t, os.RemoveAll(n.conf))
	n.wantReload("")
	must(t, os.Mkdir(n.conf, 0o755))
	n.configure("a.conflist", n.named("again"))
	n.wantReload("again")

	// Another folder takes its place, twice, and is then changed.
	for _, name := range []string{"second", "third"} {
		must(t, os.Mkdir(n.conf+".next", 0o755))
		must(t, os.Rename(n.conf, n.conf+"."+name), os.Rename(n.conf+".next", n.conf))
		n.configure("a.conflist", n.named(name))
		n.wantReload(name)
		n.configure("a.conflist", n.named(name+"-changed"))
		n.wantReload(name + "-changed")
	}

	// So does one above it.
	must(t, os.Rename(above, above+".old"))
	n.wantReload("")
	must(t, os.MkdirAll(n.conf, 0o755))
	n.configure("a.conflist", n.named("moved"))
	n.wantReload("moved")
}

func TestReloadOfFolderBehindLink(t *testing.T) {
	n := newNet(t, setup{})
	dir := filepath.Dir(n.conf)
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(n.conf, link))
	n.conf = link
	n.restart()
	n.configure("05-first.conflist", n.named("first"))
	n.wantReload("first")

	other := filepath.Join(dir, "other.d")
	must(t, os.Mkdir(other, 0o755), os.Symlink(other, link+".new"), os.Rename(link+".new", link))
	n.wantReload("")
	n.configure("05-first.conflist", n.named("other"))
	n.wantReload("other")
}

func TestFilesThatAreNotValid(t *testing.T) {
	for name, content := range map[string]string{
		"a.conflist": `{"cniVersion":"1.0.0","name":"x","plugins":[]}`,
		"b.conflist": `{"cniVersion":"1.0.0","name":"x"}`,
		"c.conflist": `{"cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}`,
		"d.conflist": `{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"bridge"}]}`,
		"e.conflist": `{"cniVersion":"1.0.0","name":"../x"}`,
		"f.conflist": `[]`,
		"g.conf":     `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}`,
		"h.json":     `{"cniVersion":"1.0.0","name":"x"}`,
		"i.conf":     `{"cniVersion":"1.0.0","type":"bridge"}`,
		"j.conflist": `{"cniVersion":"1.0.0","name":"` + strings.Repeat("x", configMost) + `"}`,
		"k.conf":     ``,
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		if list, err := loadNetwork(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: network %+v, %v, want an error that names the file", name, list, err)
		}
	}
}

func TestFilesThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	must(t,
		unix.Mkfifo(filepath.Join(dir, "a.conf"), 0o600), // opening it must not wait for a writer
		os.Mkdir(filepath.Join(dir, "b.conf"), 0o700),
		os.Symlink("/nowhere", filepath.Join(dir, "c.conf")),
		os.WriteFile(filepath.Join(dir, "d.conf~"), []byte("{}"), 0o600),
		os.WriteFile(filepath.Join(dir, "z.conf"), []byte(`{"cniVersion":"1.0.0","name":"x","type":"bridge"}`), 0o600))
	list, err := loadNetwork(dir)
	if err != nil || list.Name != "x" || len(list.Plugins) != 1 {
		t.Errorf("%+v, %v, want the network of the one file that is valid", list, err)
	}
}
