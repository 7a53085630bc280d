package storage

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// reserveFile, in each writable root, holds room that is given up when nothing else is
	// left.
	reserveFile = "stele-reserve"
	// reserveSize is enough for new copies of the indexes of some thousand layers, in
	// bytes.
	reserveSize = 2 << 20
)

// freeing calls a function that frees space, for which it may need some: the library writes
// a new copy of an index before it removes anything. On a full disk not even the container
// that filled it could be removed. So the call is repeated without the reserve, which comes
// back as soon as there is room.
func (d *disk) freeing(do func() error) error {
	err := do()
	if !IsFull(err) {
		return err
	}
	for _, root := range d.layout.writableRoots() {
		if err := os.Remove(filepath.Join(root, reserveFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			d.log.Warn("the room that was reserved for removals cannot be given up", "store", root, "error", err)
		}
	}
	err = do()
	d.keepReserves()
	return err
}

// keepReserves makes the reserves that are missing, where the filesystem has room for them.
func (d *disk) keepReserves() {
	for _, root := range d.layout.writableRoots() {
		path := filepath.Join(root, reserveFile)
		if err := reserve(path); err != nil {
			_ = os.Remove(path)
			d.log.Debug("there is no room to reserve for removals", "store", root, "error", err)
		}
	}
}

func reserve(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(file.Fd()), 0, 0, reserveSize), file.Close())
}
