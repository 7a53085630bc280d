package volumes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec"
)

// openEtc opens /etc of a root file system, and makes it if it is missing. It follows no link
// out of there: /etc may be one (CVE-2024-5154).
func openEtc(rootfs string) (*os.File, error) {
	root, err := os.Open(rootfs)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return pathrs.MkdirAllHandle(root, "/etc", 0o755)
}

func makeMtab(s spec.MakeMtab) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("link /etc/mtab in the image: %w", err)
		}
	}()
	etc, err := openEtc(s.Rootfs)
	if err != nil {
		return err
	}
	defer etc.Close()
	if err := unix.Symlinkat("/proc/mounts", int(etc.Fd()), "mtab"); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	}
	return unix.Fchownat(int(etc.Fd()), "mtab", int(s.UID), int(s.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// fieldEtc is the field of a FieldError about an image's /etc.
const fieldEtc = "the image's /etc"

const (
	// zones is where images have the time zone database.
	zones = "/usr/share/zoneinfo/"
	// maxZone bounds a time zone's file, in bytes; the largest has some thousands.
	maxZone = 1 << 20
)

// setTimezone leaves the old /etc/localtime or the new one, whatever happens. What an old link
// leads to is left alone: it is another zone.
func setTimezone(s spec.SetTimezone) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("set the time zone %s in the image: %w", s.Zone, err)
		}
	}()
	etc, err := openEtc(s.Rootfs)
	if err != nil {
		return refused(fieldEtc, "/etc", "has no place for a time zone: %v", err)
	}
	defer etc.Close()
	const unfinished = ".localtime.stele"
	fd := int(etc.Fd())
	// Whoever made the last one may have been killed.
	if err := unix.Unlinkat(fd, unfinished, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if hasZone(s.Rootfs, s.Zone) {
		// A link, from which programs read the zone's name: localtime(5).
		err = unix.Symlinkat(s.Zone, fd, unfinished)
	} else {
		err = copyZone(s.Zone, fd, unfinished)
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(fd, unfinished, int(s.UID), int(s.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Renameat(fd, unfinished, fd, "localtime"); err != nil {
		return refused(fieldEtc, "/etc/localtime", "can't be replaced by a time zone: %v", err)
	}
	return nil
}

// hasZone reports whether the image has the zone in its own database.
func hasZone(rootfs, zone string) bool {
	if !strings.HasPrefix(zone, zones) {
		return false
	}
	file, err := pathrs.OpenInRoot(rootfs, zone)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

func copyZone(zone string, etc int, name string) (err error) {
	source, err := os.OpenFile(zone, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	data, err := io.ReadAll(io.LimitReader(source, maxZone+1))
	if err != nil {
		return err
	}
	if len(data) > maxZone {
		return fmt.Errorf("larger than %d bytes", maxZone)
	}
	fd, err := unix.Openat(etc, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	target := os.NewFile(uintptr(fd), name)
	_, err = target.Write(data)
	return errors.Join(err, target.Close())
}
