package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/cyphar/filepath-securejoin/pathrs-lite"

	"github.com/stele-runtime/stele/executors/spec"
)

// fill makes the directory of a volume with a copy of what the image has
// at dest. The path is resolved inside the root file system (CVE-2022-23648). A
// directory that is there already is complete: it got its name last.
func fill(s spec.FillVolume) error {
	dest, dir := s.Path, s.Dir
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
	found, err := copyFromImage(s.Rootfs, dest, unfinished)
	if err != nil {
		return err
	}
	if !found {
		if err := os.Lchown(unfinished, int(s.UID), int(s.GID)); err != nil {
			return fmt.Errorf("make a volume for %s: %w", dest, err)
		}
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("make a volume for %s: %w", dest, err)
	}
	return nil
}

// copyFromImage reports whether the image has the directory.
func copyFromImage(rootfs, dest, dir string) (found bool, err error) {
	resolved, err := securejoin.SecureJoin(rootfs, dest)
	if err != nil {
		return false, refused(spec.FieldVolumes, dest, "can't be resolved in the image: %v", err)
	}
	if resolved == filepath.Clean(rootfs) {
		return false, refused(spec.FieldVolumes, dest, "leads to the root directory")
	}
	handle, err := pathrs.OpenInRoot(rootfs, dest)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, refused(spec.FieldVolumes, dest, "can't be opened in the image: %v", err)
	}
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return false, fmt.Errorf("look at %s in the image: %w", dest, err)
	}
	if !info.IsDir() {
		return false, refused(spec.FieldVolumes, dest, "is not a directory in the image")
	}
	// The link in /proc leads to the very directory that was opened, whatever
	// has become of its path.
	from, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()))
	if err != nil {
		return false, fmt.Errorf("open %s in the image: %w", dest, err)
	}
	defer func() { _ = from.Close() }() // nothing is written through it
	to, err := os.OpenRoot(dir)
	if err != nil {
		return false, fmt.Errorf("open a volume for %s: %w", dest, err)
	}
	defer func() { _ = to.Close() }() // nor is the directory itself
	if err := copyTree(from, to); err != nil {
		return false, fmt.Errorf("copy %s from the image: %w", dest, err)
	}
	return true, nil
}
