package podfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stele-runtime/stele/actors/fault"
)

// LogPath returns the path of a container's log without links in the directory that
// the kubelet named (on many nodes /var/log is one); below it the monitor follows
// none. It refuses a directory in which no log can be, while the caller can still
// be told; a missing one is made by the monitor.
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
	resolved, err := filepath.EvalSymlinks(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		resolved = directory
	case err != nil:
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
