package daemon

import (
	"fmt"
	"io/fs"
	"os"
)

// MakeDirs makes the root and the state directory, with their modes.
func MakeDirs(root, state string) error {
	for dir, mode := range map[string]fs.FileMode{
		root: 0o700,
		// Runtimes that drop privileges walk the path to the sources of bind mounts.
		state: 0o711,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
	}
	return nil
}
