package architecture

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() || strings.HasPrefix(name, ".") || skipped(name) || slices.Contains(topLevel, name) {
			continue
		}
		t.Errorf("folder %s at the top: a newcomer reads the top level first, so it has only %s", name, strings.Join(topLevel, ", "))
	}
}

// Each package tells what it does and what it must not know.
func TestPackagesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		// A folder of nothing but tests documents itself by their names.
		if f.test || within(f.folder, "proto") {
			continue
		}
		documented[f.folder] = documented[f.folder] || f.syntax.Doc != nil
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment: its doc.go says what it does, what it must not know, and which file to read first", folder)
		}
	}
}

// A clone stands alone: nothing in it refers to what is beside it, or to a place
// on somebody's machine.
func TestNoForeignPaths(t *testing.T) {
	foreign := regexp.MustCompile(`\.\./sha(?:red)\b|/opt/stele-d(?:ev)\b|/work/(?:main|notes|shared)\b|/Users/(?:\w+)/|/home/(?:\w+)/go/`)
	walk(t, func(path string) {
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			return
		}
		if bytes.IndexByte(content, 0) >= 0 {
			return
		}
		for i, line := range bytes.Split(content, []byte("\n")) {
			if at := foreign.Find(line); at != nil {
				t.Errorf("%s:%d mentions %s, which no other clone has", path, i+1, at)
			}
		}
	})
}
