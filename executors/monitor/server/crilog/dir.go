package crilog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openDir opens a directory, by its clean absolute path, for use with the *at calls,
// and makes what is missing of it, mode 0755. It follows no link in any element:
// pods that mount the log directories of the host can put links there, and what
// the monitor writes as root would end up where they lead.
func openDir(dir string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open("/", flags, 0)
	if err != nil {
		return -1, fmt.Errorf("open /: %w", err)
	}
	for _, name := range strings.Split(strings.Trim(dir, "/"), "/") {
		if name == "" {
			continue
		}
		next, err := unix.Openat(fd, name, flags, 0)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(fd, name, 0o755); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = unix.Openat(fd, name, flags, 0)
			}
		}
		_ = unix.Close(fd)
		if err != nil {
			return -1, fmt.Errorf("open %q of log directory %s without following links: %w", name, dir, err)
		}
		fd = next
	}
	return fd, nil
}

// openLog opens or makes the log at path, mode 0640, for appending.
func openLog(path string) (fd int, size int64, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return -1, 0, fmt.Errorf("log %q is not a clean absolute path", path)
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return -1, 0, err
	}
	defer func() { _ = unix.Close(dir) }()
	return openLogAt(dir, path, 0)
}

// openLogAt opens path, the last element of which is in dir. O_NONBLOCK keeps a
// FIFO that somebody put there from blocking; on a file it means nothing.
func openLogAt(dir int, path string, flags int) (fd int, size int64, err error) {
	flags |= unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err = unix.Openat(dir, filepath.Base(path), flags, 0o640)
	if err != nil {
		return -1, 0, fmt.Errorf("open log %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("stat log %s: %w", path, err)
	}
	// A second name would let a pod have the monitor append to a file of the
	// host that the pod can link to but not write.
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("open log %s: not a regular file with one name (mode %#o, %d names)", path, st.Mode, st.Nlink)
	}
	return fd, st.Size, nil
}

// replaceLog puts a new and empty file in the place of the log at path.
func replaceLog(path string) (int, error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(dir) }()
	fresh := path + ".new"
	if err := unix.Unlinkat(dir, filepath.Base(fresh), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("remove %s: %w", fresh, err)
	}
	fd, _, err := openLogAt(dir, fresh, unix.O_EXCL)
	if err != nil {
		return -1, err
	}
	if err := unix.Renameat(dir, filepath.Base(fresh), dir, filepath.Base(path)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("rename %s to %s: %w", fresh, path, err)
	}
	return fd, nil
}
