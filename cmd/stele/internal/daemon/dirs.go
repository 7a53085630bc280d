package daemon

import (
	"fmt"
	"os"
)

// MakeDirs makes the root and the state directory. Nothing below them is open to others:
// what is there for containers they reach by mounts, and some of it, as a pod's /dev/shm, is
// open to every user (CVE-2024-25621).
func MakeDirs(root, state string) error {
	const mode = 0o700
	for _, dir := range []string{root, state} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
	}
	return nil
}
