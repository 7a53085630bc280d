package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// placing are the v1 controllers whose cgroups decide over a process's life: a process
// in one of them can be starved, stopped or killed with the cgroup.
var placing = []string{"memory", "pids", "cpu", "freezer"}

// Join moves this process into a cgroup, which is created if it is missing: in the v2
// hierarchy and in those of the placing v1 controllers, as far as they are mounted.
// The path is absolute, from the hierarchies' root.
func Join(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("join cgroup %q: that is no absolute, clean path", path)
	}
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("join cgroup %s: %w", path, err)
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return fmt.Errorf("join cgroup %s: %w", path, err)
	}
	dirs := dirsOf(string(cgroups), mounts, path)
	if len(dirs) == 0 {
		return fmt.Errorf("join cgroup %s: no hierarchy is mounted", path)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("join cgroup %s: %w", path, err)
		}
		// 0 stands for the process that writes.
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup %s: %w", path, err)
		}
	}
	return nil
}

// dirsOf returns a cgroup's directories in the hierarchies, given /proc/self/cgroup and
// mountinfo.
func dirsOf(cgroups, mounts, path string) []string {
	var dirs []string
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		controllers := strings.Split(fields[1], ",")
		fsType, option := "cgroup2", ""
		if fields[1] != "" {
			at := slices.IndexFunc(controllers, func(c string) bool { return slices.Contains(placing, c) })
			if at < 0 {
				continue
			}
			fsType, option = "cgroup", controllers[at]
		}
		mount, root := mountOf(mounts, fsType, option)
		below, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if mount != "" && ok {
			dirs = append(dirs, filepath.Join(mount, below))
		}
	}
	return dirs
}
