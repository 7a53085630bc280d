package podfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// MountShm mounts the tmpfs that a pod's containers share as /dev/shm. One that
// is mounted already is left as it is. size is in bytes.
func MountShm(dir string, size int64, owner Owner) error {
	return mountTmpfs(dir, owner.labelled(fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", size, owner.UID, owner.GID)))
}

// mountTmpfs mounts a tmpfs, unless one is mounted already. Nothing in it is a program or
// a device: containers write it.
func mountTmpfs(dir, options string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("mount the pod's files: %w", err)
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return fmt.Errorf("mount the pod's files: is %s mounted: %w", dir, err)
	}
	if mounted {
		return nil
	}
	if err := unix.Mount("stele", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount the pod's files on %s: %w", dir, err)
	}
	return nil
}

// Unmount unmounts what Write and MountShm mounted in a pod's directory. Already gone is
// success.
func Unmount(dir string) error {
	return errors.Join(unmountTmpfs(In(dir).Shm), unmountTmpfs(etcDir(dir)))
}

func unmountTmpfs(dir string) error {
	for {
		// More than once if it was mounted more than once. The mount may still be
		// open in a container that is about to end: it is detached now and freed
		// then.
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount the pod's files from %s: %w", dir, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount the pod's files: %w", err)
	}
	return nil
}
