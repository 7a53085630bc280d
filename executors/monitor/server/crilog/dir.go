package crilog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openDir opens a directory by its clean absolute path, for the *at calls. With makeDirs
// it creates what is missing, mode 0755. It follows no symbolic link in any element:
// pods that mount the host's log directories can put links there, and what the monitor
// writes as root would end up where they lead.
func openDir(dir string, makeDirs bool) (int, error) {
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
		if errors.Is(err, unix.ENOENT) && makeDirs {
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

// openLogDir opens the directory of the log at path.
func openLogDir(path string, makeDirs bool) (int, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return -1, fmt.Errorf("log %q is not a clean absolute path", path)
	}
	return openDir(filepath.Dir(path), makeDirs)
}

// openLog opens or makes the log at path, mode 0640, for appending.
func openLog(path string, makeDirs bool) (fd int, size int64, err error) {
	dir, err := openLogDir(path, makeDirs)
	if err != nil {
		return -1, 0, err
	}
	defer func() { _ = unix.Close(dir) }()
	fd, st, err := openFileAt(dir, filepath.Base(path), unix.O_CREAT)
	if err != nil {
		return -1, 0, fmt.Errorf("open log %s: %w", path, err)
	}
	return fd, st.Size, nil
}

// openFileAt opens a file in a directory. O_NONBLOCK keeps a FIFO put there from
// blocking; it has no effect on a file.
func openFileAt(dir int, name string, flags int) (fd int, st unix.Stat_t, err error) {
	flags |= unix.O_RDWR | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err = unix.Openat(dir, name, flags, 0o640)
	if err != nil {
		return -1, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, st, fmt.Errorf("stat it: %w", err)
	}
	// A second name would let a pod make the monitor append to a host file that the
	// pod can link to but not write.
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		_ = unix.Close(fd)
		return -1, st, fmt.Errorf("it is not a regular file with one name (mode %#o, %d names)", st.Mode, st.Nlink)
	}
	return fd, st, nil
}

// replaceLog replaces the log at path by an empty file.
func replaceLog(path string) (int, error) {
	dir, err := openLogDir(path, false)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(dir) }()
	fresh := path + ".new"
	if err := unix.Unlinkat(dir, filepath.Base(fresh), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("remove %s: %w", fresh, err)
	}
	fd, _, err := openFileAt(dir, filepath.Base(fresh), unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return -1, fmt.Errorf("make log %s: %w", fresh, err)
	}
	if err := unix.Renameat(dir, filepath.Base(fresh), dir, filepath.Base(path)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("rename %s to %s: %w", fresh, path, err)
	}
	return fd, nil
}
