package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec"
)

var (
	// errNotDevice is returned for files that are no device nodes.
	errNotDevice = errors.New("not a device")
	errTooMany   = fmt.Errorf("more than %d files to look at", maxDeviceFiles)
)

// maxDeviceFiles bounds how many files are looked at below one directory; a node's
// whole /dev has some hundreds.
const maxDeviceFiles = 1 << 16

// devicesAt returns the device at a path, following links; or, if that is a
// directory, every device below it.
func devicesAt(path string) spec.Devices {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return spec.Devices{Err: err}
	}
	info, err := os.Stat(path)
	if err != nil {
		return spec.Devices{Err: err}
	}
	if !info.IsDir() {
		d, err := statDevice(path)
		if err != nil {
			return spec.Devices{Err: err}
		}
		return spec.Devices{Nodes: []spec.Device{d}}
	}
	found := devicesBelow(path, func(string) bool { return false })
	if found.Err == nil && len(found.Nodes) == 0 {
		found.Err = errors.New("a directory without devices")
	}
	return found
}

// allDevices lists every device below /dev, but for what belongs to a terminal or
// is mounted anew in each container.
func allDevices(dev string) spec.Devices {
	return devicesBelow(dev, func(path string) bool {
		switch path {
		case "console", "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
			return true
		}
		return false
	})
}

// devicesBelow lists the devices below a directory; skip names files and directories
// that are left out, by their path below it. A device that goes away in the meantime
// is left out, too.
func devicesBelow(dir string, skip func(path string) bool) (found spec.Devices) {
	looked := 0
	found.Err = filepath.WalkDir(dir, func(p string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p != dir {
			return nil
		}
		if err != nil {
			return err
		}
		if looked++; looked > maxDeviceFiles {
			return errTooMany
		}
		below := strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		switch {
		case skip(below) && entry.IsDir():
			return filepath.SkipDir
		case skip(below), entry.Type()&fs.ModeDevice == 0:
			return nil
		}
		d, err := statDevice(p)
		if errors.Is(err, errNotDevice) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		d.Path = below
		found.Nodes = append(found.Nodes, d)
		return err
	})
	return found
}

func statDevice(path string) (spec.Device, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return spec.Device{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	d := spec.Device{
		Major: int64(unix.Major(uint64(stat.Rdev))),
		Minor: int64(unix.Minor(uint64(stat.Rdev))),
		UID:   &stat.Uid,
		GID:   &stat.Gid,
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	default:
		return spec.Device{}, fmt.Errorf("%s: %w", path, errNotDevice)
	}
	mode := fs.FileMode(stat.Mode & 0o777)
	d.FileMode = &mode
	return d, nil
}
