package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec"
)

func TestCopyOfNode(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to/default-0")
	writeFiles(t, dir, map[string]string{"from/a/key": "secret", "elsewhere/deep/cert": "public"})
	for _, err := range []error{
		os.Chmod(filepath.Join(from, "a/key"), 0o640|os.ModeSetuid), os.Chmod(filepath.Join(from, "a"), 0o750),
		os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(from, "link")), os.Symlink("nowhere", filepath.Join(from, "dangling")), os.Symlink("a/key/below", filepath.Join(from, "astray")),
		os.Symlink("circle", filepath.Join(from, "circle")), unix.Mkfifo(filepath.Join(from, "fifo"), 0o600),
		unix.Mknod(filepath.Join(from, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	writeFiles(t, dir, map[string]string{"to/default-0.unfinished/junk": "of a killed try"})
	steps := []spec.Step{spec.CopyOfNode{Source: from, Path: to, UID: 1000, GID: 2000}}
	if err := Make(steps); err != nil {
		t.Fatal(err)
	}
	var found []string
	if err := filepath.WalkDir(to, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		found = append(found, fmt.Sprintf("%s %o %d:%d", strings.TrimPrefix(path, to), stat.Mode, stat.Uid, stat.Gid))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := " 40755 1000:2000|/a 40750 1000:2000|/a/key 100640 1000:2000|/link 40755 1000:2000|/link/deep 40755 1000:2000|/link/deep/cert 100644 1000:2000"
	if got := strings.Join(found, "|"); got != want {
		t.Errorf("the copy has\n%s, want\n%s", got, want)
	}
	// A second call finds the copy; the node's file is another.
	if err := errors.Join(os.WriteFile(filepath.Join(to, "a/key"), []byte("changed"), 0o600), Make(steps)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(to, "a/key"): "changed", filepath.Join(from, "a/key"): "secret"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", path, got, err)
		}
	}
	// A single file.
	one := filepath.Join(dir, "to/default-1")
	if err := Make([]spec.Step{spec.CopyOfNode{Source: filepath.Join(from, "a/key"), Path: one}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(one); err != nil || string(got) != "secret" {
		t.Errorf("a single file: %q, %v", got, err)
	}
}

// What has no end fails, and leaves nothing.
func TestCopyOfNodeIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		make func(dir string) error
		word string
	}{
		"large": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/a", make([]byte, maxNodeBytes-1), 0o600), os.WriteFile(dir+"/b", make([]byte, 2), 0o600))
		}, "bytes"},
		"circle": {func(dir string) error { return os.Symlink(".", dir+"/self") }, "directories deep"},
		// More links than the kernel follows in one lookup.
		"circle by another place": {func(dir string) error {
			elsewhere := t.TempDir()
			return errors.Join(os.Symlink(dir, elsewhere+"/back"), os.Symlink(elsewhere+"/back", dir+"/self"))
		}, "directories deep"},
		"many": {func(dir string) (err error) {
			for i := range maxNodeFiles {
				err = errors.Join(err, os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600))
			}
			return err
		}, "files"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), filepath.Join(t.TempDir(), "volumes/copy")
			if err := c.make(from); err != nil {
				t.Fatal(err)
			}
			err := Make([]spec.Step{spec.CopyOfNode{Source: from, Path: to}})
			if err == nil || !strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), "default_mounts_file: copy "+from) {
				t.Error(err)
			}
			if left, err := os.ReadDir(filepath.Dir(to)); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := Make([]spec.Step{spec.CopyOfNode{Source: "/dev/null", Path: to}}); err == nil || !strings.Contains(err.Error(), "neither a file nor a directory") {
		t.Errorf("a device: %v", err)
	}
}
