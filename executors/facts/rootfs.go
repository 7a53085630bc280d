package facts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/spec"
)

// resolveInRoot finds where a path inside a root file system leads, whether or not
// something is there.
func resolveInRoot(rootfs, dir string) spec.Place {
	resolved, err := securejoin.SecureJoin(rootfs, dir)
	if err != nil {
		return spec.Place{Err: err}
	}
	return spec.Place{Path: path.Clean("/" + strings.TrimPrefix(resolved, path.Clean(rootfs)))}
}

// lacksMtab reports whether /etc/mtab can be made in a root file system. Where /etc is none, or
// leads nowhere, nothing is made.
func lacksMtab(rootfs string) bool {
	etc, err := pathrs.OpenInRoot(rootfs, "/etc")
	if err != nil {
		_, err := os.Lstat(filepath.Join(rootfs, "etc"))
		return errors.Is(err, fs.ErrNotExist)
	}
	defer etc.Close()
	var stat unix.Stat_t
	return errors.Is(unix.Fstatat(int(etc.Fd()), "mtab", &stat, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT)
}

// readInRoot reads a file of a root file system, following links inside it only.
// A missing file is empty; one that is too large, or isn't a regular file, is an
// error.
func readInRoot(rootfs, name string, limit int64) spec.File {
	handle, err := pathrs.OpenInRoot(rootfs, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return spec.File{}
		}
		return spec.File{Err: fmt.Errorf("open %s in the image: %w", name, err)}
	}
	defer handle.Close()
	// Look before opening for real: a FIFO would block, a device would act.
	info, err := handle.Stat()
	if err != nil {
		return spec.File{Err: fmt.Errorf("look at %s in the image: %w", name, err)}
	}
	if !info.Mode().IsRegular() {
		return spec.File{Err: fmt.Errorf("read %s in the image: not a regular file", name)}
	}
	file, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return spec.File{Err: fmt.Errorf("open %s in the image: %w", name, err)}
	}
	defer file.Close()
	data, err := readBounded(file, limit)
	if err != nil {
		return spec.File{Err: fmt.Errorf("read %s in the image: %w", name, err)}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return spec.File{Data: data, Open: !ok || stat.Uid != 0 || info.Mode()&0o022 != 0}
}

// readBounded reads a file of at most limit bytes; a longer one is an error.
func readBounded(file *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data, nil
}
