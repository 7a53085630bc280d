package storage

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Renames anywhere on the machine disturb the kernel's look-up of a path with "..": it must
// succeed anyway.
func TestSubPathIsFoundWhileOthersRename(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(elsewhere, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(rootFD)
	done := make(chan struct{})
	var renaming sync.WaitGroup
	renaming.Go(func() {
		from, to := filepath.Join(elsewhere, "x"), filepath.Join(elsewhere, "y")
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
				return
			}
			from, to = to, from
		}
	})
	defer renaming.Wait()
	defer close(done)
	for range 20000 {
		found, err := openInRoot(rootFD, "a/../a/../a/b/../b")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Close(found); err != nil {
			t.Fatal(err)
		}
	}
}
