package cni

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listTemplate is as people have them for containerd.
const listTemplate = `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","ipam":{"type":"host-local",
"ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$r}}"}]{{end}}],
"routes":[{{range $i, $r := .Routes}}{{if $i}},{{end}}{"dst":"{{$r}}"}{{end}}]},"first":"{{.PodCIDR}}"}]}`

func rangesOf(texts ...string) (ranges []netip.Prefix) {
	for _, text := range texts {
		ranges = append(ranges, netip.MustParsePrefix(text))
	}
	return ranges
}

func newTemplate(t *testing.T, text string) Template {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.tmpl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Template{Path: path, ConfDir: filepath.Join(t.TempDir(), "made", "net.d")}
}

func TestFill(t *testing.T) {
	tmpl := newTemplate(t, listTemplate)
	fill := func(want bool, ranges ...string) {
		t.Helper()
		written, err := tmpl.Fill(rangesOf(ranges...))
		if err != nil || written != want {
			t.Fatalf("written: %t, %v; want %t", written, err, want)
		}
	}
	has := func(want ...string) {
		t.Helper()
		list, err := loadNetwork(tmpl.ConfDir)
		if err != nil || list.Name != "pods" {
			t.Fatalf("the folder has the network %v, %v", list, err)
		}
		for _, part := range want {
			if !strings.Contains(string(list.Bytes), part) {
				t.Errorf("the network lacks %s:\n%s", part, list.Bytes)
			}
		}
	}
	fill(true, "10.1.0.0/24")
	has(`[{"subnet":"10.1.0.0/24"}]`, `"routes":[{"dst":"0.0.0.0/0"}]`, `"first":"10.1.0.0/24"`)
	path := filepath.Join(tmpl.ConfDir, templateFile)
	before, err := os.Stat(path)
	if err != nil || before.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v", before.Mode(), err)
	}
	fill(false, "10.1.0.0/24")
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("what has not changed was written again")
	}
	fill(true, "fd00:1::/64", "10.2.0.0/24")
	has(`[{"subnet":"fd00:1::/64"}],[{"subnet":"10.2.0.0/24"}]`, `"routes":[{"dst":"::/0"},{"dst":"0.0.0.0/0"}]`, `"first":"fd00:1::/64"`)
	if entries, _ := os.ReadDir(tmpl.ConfDir); len(entries) != 1 {
		t.Errorf("the folder has %v", entries)
	}
}

// A network of somebody else's is left alone; files that configure none don't count.
func TestFillBesideAnotherNetwork(t *testing.T) {
	tmpl := newTemplate(t, listTemplate)
	if err := os.MkdirAll(tmpl.ConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(tmpl.ConfDir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("99-other.conflist", `{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}`)
	if written, err := tmpl.Fill(rangesOf("10.1.0.0/24")); err != nil || written {
		t.Errorf("written: %t, %v", written, err)
	}
	write("99-other.conflist", `{`)
	if written, err := tmpl.Fill(rangesOf("10.1.0.0/24")); err != nil || !written {
		t.Errorf("written: %t, %v", written, err)
	}
}

// What cannot be filled, or is no configuration afterwards, changes nothing.
func TestFillRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"broken":       {`{{.PodCIDR`, "unclosed action"},
		"unknown name": {`{{.ClusterCIDR}}`, "ClusterCIDR"},
		"no JSON":      {`subnet {{.PodCIDR}}`, "no network configuration"},
		"no plugins":   {`{"cniVersion":"1.0.0","name":"x","plugins":[]}`, "plugins"},
		"hostile name": {`{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"bridge"}]}`, "name"},
		"endless":      {`{{define "a"}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{template "a"}}{{end}}{{template "a"}}`, ""},
		"too long":     {strings.Repeat("x", configMost+1), "longer"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl := newTemplate(t, c.text)
			written, err := tmpl.Fill(rangesOf("10.1.0.0/24"))
			if err == nil || written || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), tmpl.Path) {
				t.Errorf("written: %t, %v", written, err)
			}
			if entries, _ := os.ReadDir(tmpl.ConfDir); len(entries) > 0 {
				t.Errorf("the folder has %v", entries)
			}
		})
	}
	tmpl := newTemplate(t, listTemplate)
	if err := os.Remove(tmpl.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Fill(rangesOf("10.1.0.0/24")); err == nil || !strings.Contains(err.Error(), tmpl.Path) {
		t.Errorf("a template that is gone: %v", err)
	}
}
