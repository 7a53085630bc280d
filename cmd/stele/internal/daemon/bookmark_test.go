package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/projections"
)

func TestBookmark(t *testing.T) {
	dir := t.TempDir()
	open := func() *Bookmark {
		b, err := OpenBookmark(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	expect := func(want projections.Place, there bool) {
		t.Helper()
		if got, found, err := open().Load(); got != want || found != there || err != nil {
			t.Errorf("got %v, %t, %v, want %v, %t", got, found, err, want, there)
		}
	}
	expect(projections.Place{}, false)
	b := open()
	for _, p := range []projections.Place{{Sequence: 1<<64 - 1, Index: 1<<32 - 1}, {Sequence: 7, Index: 2}, {}} {
		if err := b.Save(p); err != nil {
			t.Error(err)
		}
		expect(p, true)
	}
	if err := b.Clear(); err != nil {
		t.Error(err)
	}
	expect(projections.Place{}, false)
	file := filepath.Join(dir, "delivered")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, content := range []string{"\n", "7", "7 2\n", strings.Repeat("9", 100), "-0000000000000000001 0000000001\n", "00000000000000000007 0000000002", "00000000000000000007 0000000002\n\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, found, err := open().Load(); err == nil || found {
			t.Errorf("%q is read as %v", content, got)
		}
	}
	if _, err := OpenBookmark(filepath.Join(dir, "none")); err == nil {
		t.Error("a bookmark in no directory")
	}
}
