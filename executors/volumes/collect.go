package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Collect removes the volumes of unknown containers from a directory that has one
// for each container, and returns their ids.
func Collect(dir string, known func(id string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		const idLength = 64
		if len(entry.Name()) != idLength || known(entry.Name()) {
			continue // not a container's: dir may be a file system with its lost+found
		}
		if rmErr := os.RemoveAll(filepath.Join(dir, entry.Name())); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the volumes of a container that is gone: %w", rmErr))
			continue
		}
		removed = append(removed, entry.Name())
	}
	return removed, err
}
