package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"go.podman.io/storage/pkg/lockfile"
)

// The overlay driver gives each layer a short name, so that the options of a mount of many
// layers fit into a page: a link in its directory l to the layer's files. The file link in
// the layer's directory has the name.

// linksDir and linkFile are the driver's names.
const (
	linksDir = "l"
	linkFile = "link"
)

var shortName = regexp.MustCompile(`^[A-Z0-9]{26}$`)

// repairLinks repairs short names after a crash, before the library opens the store.
//
// An empty file link, whose writer died before filling it, is deadly: when the driver
// removes the layer, it takes "l/" with the empty name for the link, and removes the names
// of all layers. Such a file gets its name back or is removed, which the driver can handle,
// too. Links that were lost that way are remade: older programs that share the store mount
// by them.
func repairLinks(root string) (err error) {
	driverDir := filepath.Join(root, overlayDriver)
	layers, err := os.ReadDir(driverDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	records := filepath.Join(root, overlayDriver+"-layers")
	if _, err := os.Stat(records); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// A program that is making a layer right now holds the lock.
	lock, err := lockfile.GetLockFile(filepath.Join(records, "layers.lock"))
	if err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	for _, layer := range layers {
		if layer.IsDir() && wholeID.MatchString(layer.Name()) {
			err = errors.Join(err, repairLink(driverDir, layer.Name()))
		}
	}
	return err
}

func repairLink(driverDir, layer string) error {
	file := filepath.Join(driverDir, layer, linkFile)
	name, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(name) == 0 {
		if names := namesOf(driverDir, layer); len(names) > 0 {
			return os.WriteFile(file, []byte(names[0]), 0o644)
		}
		return os.Remove(file)
	}
	if !shortName.Match(name) {
		return fmt.Errorf("%s has %q, which is not a short name", file, name)
	}
	if err := os.MkdirAll(filepath.Join(driverDir, linksDir), 0o755); err != nil {
		return err
	}
	err = os.Symlink(filepath.Join("..", layer, "diff"), filepath.Join(driverDir, linksDir, string(name)))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// namesOf looks for the links to a layer.
func namesOf(driverDir, layer string) (names []string) {
	links, err := os.ReadDir(filepath.Join(driverDir, linksDir))
	if err != nil {
		return nil
	}
	for _, link := range links {
		target, err := os.Readlink(filepath.Join(driverDir, linksDir, link.Name()))
		if err == nil && target == filepath.Join("..", layer, "diff") && shortName.MatchString(link.Name()) {
			names = append(names, link.Name())
		}
	}
	return names
}

// removeDanglingLinks removes short names of layers that are gone. The driver makes the
// link before it writes the name into the layer's directory: a crash between the two leaves
// a link that nobody would remove. A link whose layer exists is never touched.
func removeDanglingLinks(dir string) error {
	links, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // vfs has none
	}
	if err != nil {
		return err
	}
	for _, link := range links {
		path := filepath.Join(dir, link.Name())
		target, err := os.Readlink(path)
		if err != nil || filepath.Base(target) != "diff" {
			continue // not the driver's
		}
		if _, err := os.Lstat(filepath.Join(dir, target)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeLostLinks makes up for the driver, which leaves short names behind in a separate
// image store: it looks for them in the containers' store.
func (d *disk) removeLostLinks() {
	if d.layout.imageRoot == d.layout.graphRoot {
		return
	}
	if err := removeDanglingLinks(filepath.Join(d.layout.driverDir(d.layout.imageRoot), linksDir)); err != nil {
		d.log.Warn("links of removed layers are left", "store", d.layout.imageRoot, "error", err)
	}
}
