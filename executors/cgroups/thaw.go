package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// thaw thaws the processes of the cgroup rel and of those below it, which have been
// sent SIGKILL: on v1 the frozen die when they thaw, on v2 at once. Whoever pauses
// containers leaves them frozen, and so does a runtime that was killed while it changed
// device rules.
func (m *Manager) thaw(rel string) error {
	h, ok := m.node.Find("freezer")
	if !ok || h.Unified {
		return nil
	}
	if err := thawBelow(filepath.Join(h.Mountpoint, rel), 0); err != nil {
		return err
	}
	above, err := freezes(h.Mountpoint, path.Dir(rel))
	if err == nil && above != "" {
		if pids, _ := readProcs(filepath.Join(h.Mountpoint, rel)); len(pids) > 0 {
			err = fmt.Errorf("the killed processes of cgroup %s end when cgroup %s, which somebody has frozen, is thawed", rel, above)
		}
	}
	return err
}

func thawBelow(dir string, depth int) error {
	err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	if depth == maxDepth {
		return fmt.Errorf("thaw cgroup %s: more than %d levels deep", dir, maxDepth)
	}
	children, err := subdirectories(dir)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := thawBelow(filepath.Join(dir, child), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// freezes returns the lowest cgroup that is frozen itself, from rel upwards; empty if
// there is none.
func freezes(mountpoint, rel string) (string, error) {
	for ; rel != "/" && rel != "."; rel = path.Dir(rel) {
		self, err := os.ReadFile(filepath.Join(mountpoint, rel, "freezer.self_freezing"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return "", fmt.Errorf("ask whether a cgroup is frozen: %w", err)
		}
		if strings.TrimSpace(string(self)) == "1" {
			return rel, nil
		}
	}
	return "", nil
}
