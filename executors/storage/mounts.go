package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	// unmountTries and unmountPause are how long to wait for a busy mount: a process that
	// was just killed may still be releasing its files.
	unmountTries = 10
	unmountPause = 20 * time.Millisecond
	// maxStacked bounds the mounts on top of each other that are removed; more than two
	// were never seen.
	maxStacked = 64
)

func isMountpoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("check whether %s is a mount: %w", path, err)
	}
	return mounted, nil
}

// unmount unmounts everything from path. A mount that stays busy is detached, with all that
// is mounted below it; then lazily is true.
func unmount(ctx context.Context, path string) (lazily bool, err error) {
	busy := 0
	for range maxStacked + unmountTries {
		flags := unix.UMOUNT_NOFOLLOW
		if busy >= unmountTries {
			flags |= unix.MNT_DETACH
			lazily = true
		}
		err := unix.Unmount(path, flags)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return lazily, nil // not a mountpoint (any more)
		case errors.Is(err, unix.EBUSY):
			busy++
			select {
			case <-time.After(unmountPause):
			case <-ctx.Done():
				return lazily, fmt.Errorf("unmount %s, which is busy: %w", path, ctx.Err())
			}
		default:
			return lazily, fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return lazily, fmt.Errorf("unmount %s: something keeps mounting on it", path)
}

// detach unmounts everything from path at once, whoever uses it.
func detach(path string) error {
	for range maxStacked {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // not a mountpoint (any more)
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return fmt.Errorf("unmount %s: something keeps mounting on it", path)
}

// detachAllLower does for all layers what detachLower does for one: the library removes
// directories of which it has no record.
func detachAllLower(l layout) error {
	homes := l.homes()
	infos, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return !slices.ContainsFunc(homes, func(home string) bool {
			below, inside := strings.CutPrefix(info.Mountpoint, home+"/")
			_, file, _ := strings.Cut(below, "/")
			lower, _, isBelow := strings.Cut(file, "/")
			return inside && isBelow && slices.Contains(lowerDirs, lower)
		}), false
	})
	if err != nil {
		return fmt.Errorf("look for layers of images that are mounted: %w", err)
	}
	for _, info := range infos {
		if err := detach(info.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// Mount is a mount that exists below one of the store's directories.
type Mount struct {
	Path string
	// ContainerID is the container that it is for. It is empty if no record of Stele's
	// explains the mount: it is another program's, or a leak.
	ContainerID string
	// ImageID is its image; empty for a volume of a directory.
	ImageID string
	// VolumeID is the image volume that it is for, or empty.
	VolumeID string
}

// Mounts returns all mounts below the store's directories in the daemon's mount namespace,
// in the kernel's order: for audits.
func (s *Store) Mounts(ctx context.Context) ([]Mount, error) {
	known, err := s.expectedMounts()
	if err != nil {
		return nil, fmt.Errorf("list mounts of the image store: %w", err)
	}
	below := []string{s.layout.runRoot + "/"}
	for _, root := range s.layout.writableRoots() {
		below = append(below, root+"/")
	}
	infos, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return !slices.ContainsFunc(below, func(root string) bool { return strings.HasPrefix(info.Mountpoint, root) }), false
	})
	if err != nil {
		return nil, fmt.Errorf("list mounts of the image store: %w", err)
	}
	mounts := make([]Mount, len(infos))
	for i, info := range infos {
		mounts[i] = known[info.Mountpoint]
		mounts[i].Path = info.Mountpoint
	}
	return mounts, ctx.Err()
}

// expectedMounts returns the mounts that the records call for, by path.
func (s *Store) expectedMounts() (map[string]Mount, error) {
	records, err := s.records()
	if err != nil {
		return nil, err
	}
	expected := map[string]Mount{}
	for _, record := range records {
		mount := Mount{ContainerID: record.containerID, ImageID: record.imageID, VolumeID: record.volumeID}
		expected[record.mountpoint(s.layout)] = mount
		if record.volumeID != "" {
			expected[s.layout.volumePath(record.volumeID)] = mount
		}
	}
	directories, err := s.Volumes.directories()
	if err != nil {
		return nil, err
	}
	for _, volume := range directories {
		expected[s.layout.volumePath(volume.volumeID)] = Mount{ContainerID: volume.containerID(), VolumeID: volume.volumeID}
	}
	return expected, nil
}
