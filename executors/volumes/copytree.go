package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// copyTree copies everything in one directory into another, with owners, modes,
// times and extended attributes. Links are copied as links, and neither
// directory is left through one. Sockets, FIFOs and devices are left out: a
// volume is data.
func copyTree(from, to *os.Root) error {
	return fs.WalkDir(from.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := from.Lstat(name)
		if err != nil {
			return err
		}
		switch {
		case info.IsDir():
			err = copyDir(from, to, name)
		case info.Mode().IsRegular():
			err = copyFile(from, to, name)
		case info.Mode()&fs.ModeSymlink != 0:
			err = copyLink(from, to, name)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		return copyOwner(to, name, info)
	})
}

func copyDir(from, to *os.Root, name string) error {
	if name != "." {
		if err := to.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	source, err := from.Open(name)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := to.Open(name)
	if err != nil {
		return err
	}
	defer target.Close()
	return copyAttributes(source, target)
}

func copyFile(from, to *os.Root, name string) (err error) {
	source, err := from.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return copyAttributes(source, target)
}

func copyLink(from, to *os.Root, name string) error {
	dest, err := from.Readlink(name)
	if err != nil {
		return err
	}
	return to.Symlink(dest, name)
}

// copyOwner sets owner, mode and time, in this order: a change of owner clears
// the set-user-id bit.
func copyOwner(to *os.Root, name string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no owner known", name)
	}
	if err := to.Lchown(name, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err := to.Chmod(name, info.Mode()); err != nil {
		return err
	}
	return to.Chtimes(name, info.ModTime(), info.ModTime())
}

// maxAttribute bounds the names and the value of extended attributes, in bytes;
// it is the kernel's own bound.
const maxAttribute = 64 << 10

// copyAttributes copies what the owner of a file can see: its own attributes,
// access lists and file capabilities.
func copyAttributes(source, target *os.File) error {
	names := make([]byte, maxAttribute)
	n, err := unix.Flistxattr(int(source.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the attributes of %s: %w", source.Name(), err)
	}
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		attr := string(name)
		if attr != "security.capability" && !strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "system.posix_acl_") {
			continue
		}
		value := make([]byte, maxAttribute)
		n, err := unix.Fgetxattr(int(source.Fd()), attr, value)
		if err != nil {
			return fmt.Errorf("read attribute %s of %s: %w", attr, source.Name(), err)
		}
		// Not every file system keeps every kind of attribute.
		err = unix.Fsetxattr(int(target.Fd()), attr, value[:n], 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s of %s: %w", attr, target.Name(), err)
		}
	}
	return nil
}
