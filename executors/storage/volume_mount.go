package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSubPath refuses what Kubernetes refuses, too. What keeps a sub path inside the image
// is mountDirectory.
func checkSubPath(path string) error {
	if filepath.IsAbs(path) {
		return fmt.Errorf("%w %q is absolute", ErrSubPath, path)
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return fmt.Errorf("%w %q has a .. in it", ErrSubPath, path)
	}
	return nil
}

// mountDirectory mounts the directory subPath of root on target: read-only, nosuid and
// nodev. Its programs can run, as in CRI-O and containerd.
//
// The image decides what is in root, links included. The kernel resolves the path as if in
// a chroot, so that no link leads out of it; the directory that was found is mounted,
// whatever the path may have become since; and the mount has its attributes before anybody
// can see it. A file is refused, as by CRI-O and containerd.
func mountDirectory(root, subPath, target string, users IDMaps) error {
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(rootFD)
	found, err := openInRoot(rootFD, filepath.Join(".", subPath))
	if err != nil {
		return subPathError(subPath, err)
	}
	defer unix.Close(found)

	tree, err := unix.OpenTree(found, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("clone the mount of %s: %w", filepath.Join(root, subPath), err)
	}
	defer unix.Close(tree)
	attributes := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		// What is mounted under it in a container doesn't appear on the host.
		Propagation: unix.MS_PRIVATE,
	}
	if !users.empty() {
		namespace, err := users.namespace()
		if err != nil {
			return err
		}
		defer func() { _ = namespace.Close() }() // read-only
		attributes.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attributes.Userns_fd = uint64(namespace.Fd())
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return fmt.Errorf("make the mount read-only, and map its ids if there are mappings: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on %s: %w", target, err)
	}
	return nil
}

func subPathError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w %q does not exist in the image: %w", ErrSubPath, path, err)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w %q is not a directory of the image: %w", ErrSubPath, path, err)
	}
	return fmt.Errorf("%w %q cannot be found in the image: %w", ErrSubPath, path, err)
}

// lookUps is how often a directory is looked up at most: each look-up is disturbed only by
// what happens within microseconds.
const lookUps = 128

// openInRoot finds a directory below another, which links cannot leave. A look-up through
// ".." fails with EAGAIN if anything is renamed or mounted meanwhile, anywhere on the
// machine, and must be repeated: openat2(2).
func openInRoot(rootFD int, path string) (found int, err error) {
	for range lookUps {
		found, err = unix.Openat2(rootFD, path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return found, err
}
