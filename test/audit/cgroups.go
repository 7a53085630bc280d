package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cgroups finds the daemon's cgroups in every hierarchy, v1 and v2.
func cgroups(scope Scope, snapshot Snapshot) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for m := range mountsIn(table) {
		if m.fsType != "cgroup" && m.fsType != "cgroup2" || seen[m.point] {
			continue
		}
		seen[m.point] = true
		err := filepath.WalkDir(m.point, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if gone(err) {
					return nil
				}
				return err
			}
			if !entry.IsDir() {
				return nil
			}
			if rel := strings.TrimPrefix(path, m.point); scope.ownsCgroup(rel) {
				tasks, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				detail := "empty"
				if pids := strings.Fields(string(tasks)); len(pids) > 0 {
					detail = "processes " + strings.Join(pids, " ")
				}
				snapshot.add(Cgroup, path, detail)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ownsCgroup reports whether the cgroup, relative to its hierarchy, is below one
// of the parents or has one of the ids in its path.
func (s Scope) ownsCgroup(rel string) bool {
	for _, parent := range s.Cgroups {
		if strings.HasPrefix(rel, strings.TrimSuffix(parent, "/")+"/") {
			return true
		}
	}
	for _, id := range s.IDs {
		if strings.Contains(rel, id) {
			return true
		}
	}
	return false
}
