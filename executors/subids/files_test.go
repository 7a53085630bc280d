package subids

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	uids := write("subuid", "# containers:1:1\nother\ncontainers:200000:65536\n\nother:x:y\n containers:300000:10 \ncontainersx:1:1")
	gids := write("subgid", "containers:5:6")
	u, g, err := Files{UIDs: uids, GIDs: gids, Owner: "containers"}.Read()
	if err != nil || !slices.Equal(u, []Range{{200000, 65536}, {300000, 10}}) || !slices.Equal(g, []Range{{5, 6}}) {
		t.Errorf("%v, %v, %v", u, g, err)
	}
	// By number: root has an account on every node.
	u, _, err = Files{UIDs: write("by-number", "0:7:8\n"), GIDs: write("by-name", "root:9:1\n"), Owner: "root"}.Read()
	if err != nil || !slices.Equal(u, []Range{{7, 8}}) {
		t.Errorf("by number: %v, %v", u, err)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"":                          "has none",
		"other:1:2":                 "has none",
		"me:1":                      "is not NAME:START:LENGTH",
		"me:1:2:3":                  "is not NAME:START:LENGTH",
		"me:-1:2":                   "does not start at an id",
		"me:4294967296:1":           "does not start at an id",
		"me:1:x":                    "has no number of ids",
		strings.Repeat("x", most+1): "has more than 1048576 bytes",
	} {
		path := filepath.Join(dir, "list")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := (Files{UIDs: path, GIDs: path, Owner: "me"}).Read(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"me"`) {
			t.Errorf("%.20q: %v, want %s", content, err, want)
		}
	}
	if _, _, err := (Files{UIDs: filepath.Join(dir, "none"), Owner: "me"}).Read(); err == nil {
		t.Error("a missing list has ids")
	}
}
