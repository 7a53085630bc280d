package daemon

import (
	"fmt"
	"os"
	"path/filepath"
)

// MakeDirs makes the root and the state directory. Nothing below them is open to others:
// what is there for containers they reach by mounts, and some of it, as a pod's /dev/shm, is
// open to every user (CVE-2024-25621). One may only pass through the state directory, to the
// places that the roots of user namespaces reach, each its own (executors/reachable).
func MakeDirs(root, state string) error {
	closed := []string{root}
	for _, name := range []string{"sandboxes", "containers", "runtimes", "monitor", "storage"} {
		closed = append(closed, filepath.Join(state, name))
	}
	// Closed first, so that there is nothing to be found once one may pass.
	for _, dir := range closed {
		if err := makeDir(dir, 0o700); err != nil {
			return err
		}
	}
	return makeDir(state, 0o711)
}

func makeDir(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the daemon's directories: %w", err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("make the daemon's directories: %w", err)
	}
	return nil
}
