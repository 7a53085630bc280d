package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const fieldVolumes = "the image's volume"

// imageVolumes gives each volume that the image declares a directory of its own,
// filled with what the image has in its place. A volume at or below a mount that
// the pod asks for is not made: it would hide a part of the user's data. Nor is
// one in the kernel's directories.
func (b *builder) imageVolumes(taken []specs.Mount) ([]specs.Mount, error) {
	var mounts []specs.Mount
	// The order, and with it the number that names the directory, follows from
	// the image alone, so that a second call finds the same.
	for n, volume := range slices.Sorted(maps.Keys(b.image.Volumes)) {
		if err := checkText(fieldVolumes, volume); err != nil {
			return nil, err
		}
		dest := path.Clean("/" + volume)
		if dest == "/" {
			return nil, invalid(fieldVolumes, volume, "is the root directory")
		}
		if isKernelDir(dest) || slices.ContainsFunc(taken, func(m specs.Mount) bool { return covers(m.Destination, dest) }) {
			continue
		}
		dir := filepath.Join(b.in.VolumesDir, strconv.Itoa(n))
		if err := fillVolume(b.in.Rootfs, dest, dir); err != nil {
			return nil, err
		}
		mount := bind(dir, dest, "rprivate", "rw")
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

// fillVolume makes the directory of a volume with a copy of what the image has
// at dest. The path is resolved inside the root file system (CVE-2022-23648). A
// directory that is there already is complete: it got its name last.
func fillVolume(rootfs, dest, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	unfinished := dir + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("make a volume for %s: %w", dest, err)
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return fmt.Errorf("make a volume for %s: %w", dest, err)
	}
	if err := copyFromImage(rootfs, dest, unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("make a volume for %s: %w", dest, err)
	}
	return nil
}

func copyFromImage(rootfs, dest, dir string) error {
	resolved, err := securejoin.SecureJoin(rootfs, dest)
	if err != nil {
		return invalid(fieldVolumes, dest, "can't be resolved in the image: %v", err)
	}
	if resolved == filepath.Clean(rootfs) {
		return invalid(fieldVolumes, dest, "leads to the root directory")
	}
	handle, err := pathrs.OpenInRoot(rootfs, dest)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return invalid(fieldVolumes, dest, "can't be opened in the image: %v", err)
	}
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return fmt.Errorf("look at %s in the image: %w", dest, err)
	}
	if !info.IsDir() {
		return invalid(fieldVolumes, dest, "is not a directory in the image")
	}
	// The link in /proc leads to the very directory that was opened, whatever
	// has become of its path.
	from, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()))
	if err != nil {
		return fmt.Errorf("open %s in the image: %w", dest, err)
	}
	defer func() { _ = from.Close() }() // nothing is written through it
	to, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open a volume for %s: %w", dest, err)
	}
	defer func() { _ = to.Close() }() // nor is the directory itself
	if err := copyTree(from, to); err != nil {
		return fmt.Errorf("copy %s from the image: %w", dest, err)
	}
	return nil
}
