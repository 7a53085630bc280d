package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	// unmountTries and unmountPause say how long a busy mount is waited for: a
	// process that was just killed may still be letting go of its files.
	unmountTries = 10
	unmountPause = 20 * time.Millisecond
	// maxStacked bounds how many mounts on top of each other are taken off; more
	// than two were never seen.
	maxStacked = 64
)

func isMountpoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is a mount: %w", path, err)
	}
	return mounted, nil
}

// unmount takes off everything that is mounted on path. A mount that stays busy is
// detached, with all that is mounted below it; lazily says so.
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
	return lazily, fmt.Errorf("unmount %s: something keeps being mounted on it", path)
}
