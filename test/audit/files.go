package audit

import (
	"io/fs"
	"path/filepath"
	"regexp"
)

// idInName matches names that are made of an id, whole or shortened: bundles,
// sockets, pinned namespaces, runtimes' state, cached network results.
var idInName = regexp.MustCompile(`[0-9a-f]{12,}`)

// files finds files in the daemon's directories that are named after an id, and does not
// look into directories with such a name. The image store, which has ids of its own, is for
// storage.
func files(scope Scope, snapshot Snapshot) error {
	for _, dir := range []string{scope.Root, scope.State} {
		if dir == "" {
			continue
		}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if gone(err) {
					return nil
				}
				return err
			}
			if path == dir {
				return nil
			}
			if path == filepath.Join(scope.Root, storeDir) {
				return fs.SkipDir
			}
			if !idInName.MatchString(entry.Name()) {
				return nil
			}
			snapshot.add(File, path, entry.Type().String())
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
