package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// Only files are looked at: the kernel need not have SELinux. TestSELinux of test/e2e sees what
// it does with the labels.
func TestLabelLayers(t *testing.T) {
	const before, want = "system_u:object_r:var_lib_t:s0", "system_u:object_r:container_ro_file_t:s0"
	dir := t.TempDir()
	file, root := filepath.Join(dir, "layer", "diff", "bin", "sh"), filepath.Join(dir, "layer", mergedDir)
	for _, made := range []string{filepath.Dir(file), root, filepath.Join(dir, "l")} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "l", "SHORT")
	if err := os.Symlink("../layer/diff", link); err != nil {
		t.Fatal(err)
	}
	if err := selinux.Chcon(dir, before, true); errors.Is(err, unix.ENOTSUP) {
		t.Skip("no labels on this file system")
	} else if err != nil {
		t.Fatal(err)
	}
	labels := func(want map[string]string) {
		t.Helper()
		for path, label := range want {
			if got, err := selinux.LfileLabel(path); got != label || err != nil {
				t.Errorf("%s has the label %q (%v), want %q", path, got, err, label)
			}
		}
	}
	if err := labelOnce(dir, want); err != nil {
		t.Fatal(err)
	}
	labels(map[string]string{dir: want, filepath.Join(dir, "layer"): want, file: want, link: want, root: before})
	// The directory says that all is done; a kill before that does not.
	for path, label := range map[string]string{file: before, dir: want} {
		if err := selinux.SetFileLabel(path, label); err != nil {
			t.Fatal(err)
		}
	}
	if err := labelOnce(dir, want); err != nil {
		t.Fatal(err)
	}
	labels(map[string]string{file: before})
	if err := selinux.SetFileLabel(dir, before); err != nil {
		t.Fatal(err)
	}
	if err := labelOnce(dir, want); err != nil {
		t.Fatal(err)
	}
	labels(map[string]string{dir: want, file: want})
}
