package namespaces

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MapsIDs says why the ids of files at a path of the node could not be mapped by the user
// namespace that is pinned on a file; nil if they can. Not every file system has that.
func MapsIDs(user, path string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount of %s: %w", path, err)
	}
	defer func() { _ = unix.Close(tree) }() // the clone goes with it
	namespace, err := unix.Open(user, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the user namespace %s: %w", user, err)
	}
	defer func() { _ = unix.Close(namespace) }()
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace)})
	if err != nil {
		return fmt.Errorf("map the ids of %s: %w", path, err)
	}
	return nil
}
