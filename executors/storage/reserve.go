package storage

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// reserveFile, in each directory in which the store writes, holds room that is
	// given up when nothing else is left.
	reserveFile = "stele-reserve"
	// reserveSize is enough for new copies of the indexes of some thousand layers, in
	// bytes.
	reserveSize = 2 << 20
)

// freeing does what frees space, although there may be none: the library writes a new
// copy of an index before it removes what the index had. On a full disk not even the
// container that filled it could be removed. So it is tried again without the reserve,
// which is put back as soon as there is room for it.
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

// keepReserves sees to it that there are reserves, where there is room for them and the
// filesystem can promise it.
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
