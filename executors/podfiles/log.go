package podfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stele-runtime/stele/actors/fault"
)

// LogPath returns the path of a container's log without links in the directory that
// the kubelet named (on many nodes /var/log is one); below it the monitor follows
// none. It refuses a directory in which no log can be, while the caller can still
// be told; a missing one is made by the monitor, where the links above it lead.
func LogPath(path, directory string) (string, error) {
	if path == "" {
		return "", nil
	}
	refuse := func(reason any) error {
		return fault.New(fault.Invalid, "open the log of the container", "", "log_path: %q: %v", path, reason)
	}
	below, err := filepath.Rel(directory, path)
	if err != nil {
		return "", refuse(err)
	}
	resolved, err := resolve(directory)
	if err != nil {
		return "", refuse(err)
	}
	path = filepath.Join(resolved, below)
	info, err := os.Stat(filepath.Dir(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", refuse(err)
	case !info.IsDir():
		return "", refuse("its directory is a file")
	}
	return path, nil
}

// RemoveEmptyLog removes a container's log, unless something was written to it. Below the
// directory that the kubelet named it follows no link that leads out of it.
func RemoveEmptyLog(path, directory string) error {
	if path == "" {
		return nil
	}
	below, err := filepath.Rel(directory, path)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err == nil {
		defer func() { _ = root.Close() }()
		err = removeEmpty(root, below)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func removeEmpty(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
		return err
	}
	return root.Remove(name)
}

// resolve follows the links of an absolute path as far as something is there.
func resolve(path string) (string, error) {
	for existing := filepath.Clean(path); ; existing = filepath.Dir(existing) {
		resolved, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return filepath.Join(resolved, strings.TrimPrefix(filepath.Clean(path), existing)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if _, err := os.Lstat(existing); err == nil {
			return "", fmt.Errorf("%s is a link that leads to nothing", existing)
		}
		if existing == filepath.Dir(existing) {
			return "", err
		}
	}
}
