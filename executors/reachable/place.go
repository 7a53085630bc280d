package reachable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// Place is a directory, of the given name in one for all places.
type Place struct{ Dir, Name string }

// Check says why nobody but root could reach places in the state directory; nil if they can.
func Check(stateDir string) error {
	for dir := filepath.Clean(stateDir); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look whether users may pass through the state directory: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fault.New(fault.Unsupported, "reach root file systems in user namespaces", "",
				"nobody but root may pass through %s, where the state directory %s is: chmod o+x, or move the state directory", dir, stateDir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (p Place) path() string { return filepath.Join(p.Dir, p.Name) }

// Root is what the owner reaches.
func (p Place) Root() string { return filepath.Join(p.path(), "root") }

// Make makes the place, with an empty root, for a user and a group of the node. It can be
// repeated.
func (p Place) Make(uid, gid uint32) error {
	if err := os.MkdirAll(p.Dir, 0o711); err != nil {
		return fmt.Errorf("make a reachable place: %w", err)
	}
	if err := Check(p.Dir); err != nil {
		return err
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{p.path(), 0o700}, {p.Root(), 0o755}} {
		if err := os.Mkdir(dir.path, dir.mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make a reachable place: %w", err)
		}
	}
	if err := os.Chown(p.path(), int(uid), int(gid)); err != nil {
		return fmt.Errorf("make a reachable place: %w", err)
	}
	return nil
}

// Show makes the place and mounts a directory on its root, unless that is done. What is mounted
// in either later does not appear in the other.
func (p Place) Show(source string, uid, gid uint32) error {
	if err := p.Make(uid, gid); err != nil {
		return err
	}
	mounted, err := mountinfo.Mounted(p.Root())
	if err != nil {
		return fmt.Errorf("is %s mounted: %w", p.Root(), err)
	}
	if mounted {
		return nil
	}
	if err := unix.Mount(source, p.Root(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, p.Root(), err)
	}
	if err := unix.Mount("", p.Root(), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount on %s private: %w", p.Root(), err)
	}
	return nil
}

// Remove undoes Make and Show. A place that is gone is success.
func (p Place) Remove() error {
	for {
		err := unix.Unmount(p.Root(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", p.Root(), err)
		}
	}
	for _, dir := range []string{p.Root(), p.path()} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a reachable place: %w", err)
		}
	}
	return nil
}
