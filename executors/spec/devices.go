package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices adds the device nodes that the container sees and the rules by which
// it may use them. The runtime adds null, zero, random and their like by itself.
func (b *builder) devices() error {
	linux := b.spec.Linux
	linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: b.sec.Privileged, Access: "rwm"}}
	if b.sec.Privileged && !b.in.Options.NoHostDevices {
		nodes, err := hostDevices("/dev")
		if err != nil {
			return fmt.Errorf("list the node's devices: %w", err)
		}
		for _, d := range nodes {
			linux.Devices = appendDevice(linux.Devices, d)
		}
	}
	for i, want := range b.in.Container.Devices {
		nodes, err := namedDevices(want.HostPath, path.Clean(want.ContainerPath))
		if err != nil {
			return invalid(fmt.Sprintf("devices[%d].host_path", i), want.HostPath, "can't be used: %v", err)
		}
		access := want.Permissions
		if access == "" {
			access = "rwm"
		}
		for _, d := range nodes {
			linux.Devices = appendDevice(linux.Devices, d)
			linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
				Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access,
			})
		}
	}
	return nil
}

// appendDevice replaces a node with the same path.
func appendDevice(list []specs.LinuxDevice, d specs.LinuxDevice) []specs.LinuxDevice {
	for i := range list {
		if list[i].Path == d.Path {
			list[i] = d
			return list
		}
	}
	return append(list, d)
}

// errNotDevice is returned for files that are no device nodes.
var errNotDevice = errors.New("not a device")

// namedDevices returns the device at a host path, following links; or, if that
// is a directory, every device below it, under the same names.
func namedDevices(host, container string) ([]specs.LinuxDevice, error) {
	host, err := filepath.EvalSymlinks(host)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(host)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		d, err := statDevice(host, container)
		if err != nil {
			return nil, err
		}
		return []specs.LinuxDevice{d}, nil
	}
	var out []specs.LinuxDevice
	err = filepath.WalkDir(host, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		d, err := statDevice(p, path.Join(container, p[len(host):]))
		if errors.Is(err, errNotDevice) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, d)
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("a directory without devices")
	}
	return out, err
}

// hostDevices lists every device below /dev, but for what belongs to a terminal
// or is mounted anew in each container.
func hostDevices(dev string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dev, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			// Devices come and go.
			if errors.Is(err, fs.ErrNotExist) && p != dev {
				return nil
			}
			return err
		}
		if entry.IsDir() {
			switch p[len(dev):] {
			case "/pts", "/shm", "/fd", "/mqueue", "/.lxc", "/.lxd-mounts", "/.udev":
				return filepath.SkipDir
			}
			return nil
		}
		if p == dev+"/console" || entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		d, err := statDevice(p, p)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDevice) {
				return nil
			}
			return err
		}
		out = append(out, d)
		return nil
	})
	return out, err
}

func statDevice(host, container string) (specs.LinuxDevice, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(host, &stat); err != nil {
		return specs.LinuxDevice{}, &fs.PathError{Op: "lstat", Path: host, Err: err}
	}
	d := specs.LinuxDevice{
		Path:  container,
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
		return specs.LinuxDevice{}, fmt.Errorf("%s: %w", host, errNotDevice)
	}
	mode := fs.FileMode(stat.Mode & 0o777)
	d.FileMode = &mode
	return d, nil
}
