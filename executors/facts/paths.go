package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/mountinfo"

	"github.com/stele-runtime/stele/executors/spec"
)

// resolve follows the links of a clean, absolute path of the node, as far as
// something is there. A link that leads to nothing is an error: nothing can be made
// in its place.
func resolve(path string) spec.HostPath {
	for existing := path; ; existing = filepath.Dir(existing) {
		resolved, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return spec.HostPath{Path: filepath.Join(resolved, strings.TrimPrefix(path, existing)), Missing: existing != path}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return spec.HostPath{Err: err}
		}
		if _, err := os.Lstat(existing); err == nil {
			return spec.HostPath{Err: fmt.Errorf("%s is %w", existing, spec.ErrDangling)}
		}
		if existing == filepath.Dir(existing) {
			return spec.HostPath{Err: err}
		}
	}
}

// resolveBelow is resolve with another directory as the node's root: its links lead no further.
func resolveBelow(root, path string) spec.HostPath {
	if root == "" {
		return resolve(path)
	}
	found, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return spec.HostPath{Err: err}
	}
	_, err = os.Lstat(found)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return spec.HostPath{Err: err}
	}
	return spec.HostPath{Path: found, Missing: err != nil}
}

// mountOf returns the mount that a path without links is on, or would be.
func mountOf(path string) spec.Mount {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return spec.Mount{Err: fmt.Errorf("read the mounts above %s: %w", path, err)}
	}
	var on *mountinfo.Info
	for _, m := range mounts {
		// A later mount hides an earlier one on the same place.
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	if on == nil {
		return spec.Mount{Err: fmt.Errorf("read the mounts above %s: none found", path)}
	}
	mount := spec.Mount{Mountpoint: on.Mountpoint}
	for field := range strings.FieldsSeq(on.Optional) {
		mount.Shared = mount.Shared || strings.HasPrefix(field, "shared:")
		mount.Slave = mount.Slave || strings.HasPrefix(field, "master:")
	}
	return mount
}
