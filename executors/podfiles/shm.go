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
func MountShm(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("mount shm: %w", err)
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return fmt.Errorf("mount shm: is %s mounted: %w", dir, err)
	}
	if mounted {
		return nil
	}
	err = unix.Mount("shm", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d", size))
	if err != nil {
		return fmt.Errorf("mount shm on %s: %w", dir, err)
	}
	return nil
}

// UnmountShm undoes MountShm and removes the directory. Already gone is success.
func UnmountShm(dir string) error {
	for {
		// More than once if it was mounted more than once. The mount may still be
		// open in a container that is about to end: it is detached now and freed
		// then.
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount shm from %s: %w", dir, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount shm: %w", err)
	}
	return nil
}
