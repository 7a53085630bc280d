package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// labelLayers gives layers the SELinux label of files that every container may read. A root file
// system's own label is not enough: when a program protects its memory, as most do at their
// start, Linux asks for the label of the file below the overlay. What is made in a directory
// has its label, so that only layers from before are walked over, once.
func (l layout) labelLayers(label string) error {
	if label == "" || !l.mounts() {
		return nil
	}
	want, err := selinux.CanonicalizeContext(label)
	if err != nil {
		return fmt.Errorf("label layers: %w", err)
	}
	for _, home := range l.homes() {
		// Some file systems have no labels of their own.
		if err := labelOnce(home, want); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("label layers in %s: %w", home, err)
		}
	}
	return nil
}

// labelOnce labels a directory of layers after all that is in them: if it has the label, all has.
func labelOnce(dir, want string) error {
	if has, err := selinux.FileLabel(dir); err != nil || has == want {
		return err
	}
	layers, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if !layer.IsDir() {
			continue // the driver's own
		}
		if err := labelLayer(filepath.Join(dir, layer.Name()), want); err != nil {
			return err
		}
	}
	return selinux.SetFileLabel(dir, want)
}

// labelLayer leaves out the root file systems of containers that run: their label is the mount's.
func labelLayer(dir, want string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.Name() == mergedDir {
			continue
		}
		if err := selinux.Chcon(filepath.Join(dir, file.Name()), want, true); err != nil {
			return err
		}
	}
	return selinux.SetFileLabel(dir, want)
}
