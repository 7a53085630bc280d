package volumes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec"
)

const (
	// maxNodeBytes and maxNodeFiles bound what one default mount copies into each container.
	maxNodeBytes = 16 << 20
	maxNodeFiles = 4096
	// maxNodeDepth bounds directories in each other: links may lead in a circle.
	maxNodeDepth = 32
)

// copyOfNode copies what links lead to, since the node's secrets often are links to where they
// live. What is neither a file nor a directory, or leads nowhere, is left out. A copy that is
// there is complete: it got its name last. The error is a fault.Precondition: the administrator
// can help.
func copyOfNode(s spec.CopyOfNode) error {
	if _, err := os.Lstat(s.Path); err == nil {
		return nil
	}
	unfinished := s.Path + ".unfinished"
	c := nodeCopy{uid: int(s.UID), gid: int(s.GID), bytes: maxNodeBytes, files: maxNodeFiles}
	err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(filepath.Dir(s.Path), 0o755))
	if err == nil {
		err = c.copy(unix.AT_FDCWD, s.Source, s.Source, unfinished, maxNodeDepth)
	}
	if err == nil {
		err = os.Rename(unfinished, s.Path)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("neither a file nor a directory")
		}
	}
	if err != nil {
		return fault.New(fault.Precondition, "default_mounts_file: copy", s.Source, "%v", errors.Join(err, os.RemoveAll(unfinished)))
	}
	return nil
}

// nodeCopy is a copy under way, with what it may still take.
type nodeCopy struct {
	uid, gid int
	bytes    int64
	files    int
}

// copy copies what a name in an open directory leads to; from is its path, for messages. Each
// name is looked up from its own directory: the kernel follows 40 links in one lookup at most,
// and counts those twice that it follows again because names changed meanwhile.
func (c *nodeCopy) copy(in int, name, from, to string, depth int) error {
	if c.files--; c.files < 0 {
		return fmt.Errorf("more than %d files", maxNodeFiles)
	}
	if depth == 0 {
		return fmt.Errorf("%s is more than %d directories deep", from, maxNodeDepth)
	}
	// Look before opening: a FIFO would block, a device would act.
	var info unix.Stat_t
	err := unix.Fstatat(in, name, &info, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	switch info.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.copyDir(in, name, from, to, depth)
	case unix.S_IFREG:
		err = c.copyFile(in, name, from, to)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.Lchown(to, c.uid, c.gid), os.Chmod(to, fs.FileMode(info.Mode).Perm()))
}

func (c *nodeCopy) copyDir(in int, name, from, to string, depth int) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	dir, err := openAt(in, name, from, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(c.files + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, name := range names {
		if err := c.copy(int(dir.Fd()), name, filepath.Join(from, name), filepath.Join(to, name), depth-1); err != nil {
			return err
		}
	}
	return nil
}

func (c *nodeCopy) copyFile(in int, name, from, to string) (err error) {
	source, err := openAt(in, name, from, unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	n, err := io.Copy(target, io.LimitReader(source, c.bytes+1))
	if c.bytes -= n; err == nil && c.bytes < 0 {
		return fmt.Errorf("more than %d bytes", maxNodeBytes)
	}
	return err
}

// openAt opens for reading what a name in an open directory leads to; path is for messages.
func openAt(in int, name, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
