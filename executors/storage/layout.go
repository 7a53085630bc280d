package storage

import (
	"path/filepath"
	"strings"
)

// The graph drivers that are supported. With overlay a root filesystem is a mount
// over the image's layers; with vfs it is a directory with a copy of everything, for
// filesystems on which overlay doesn't work.
const (
	overlayDriver = "overlay"
	vfsDriver     = "vfs"
)

// mergedDir is where overlay mounts a root filesystem, in its layer's directory.
const mergedDir = "merged"

// mappedDir is where it has lower layers with mapped ids for the time of a mount, in that
// directory, too; composefsDir has those that are composefs images.
const (
	mappedDir    = "mapped"
	composefsDir = "composefs-layers"
)

var lowerDirs = []string{mappedDir, composefsDir}

// A layout says where the library keeps things. It is never changed.
type layout struct {
	driver string
	// graphRoot has the containers' layers and records.
	graphRoot string
	// imageRoot has the images' layers and records: graphRoot, or what storage.conf
	// calls the imagestore, which may be another filesystem.
	imageRoot string
	// runRoot has what does not survive a reboot.
	runRoot string
	// readOnlyRoots are additional image stores, which are only read.
	readOnlyRoots []string
}

// writableRoots are the roots in which this package may remove something.
func (l layout) writableRoots() []string {
	if l.imageRoot == l.graphRoot {
		return []string{l.graphRoot}
	}
	return []string{l.graphRoot, l.imageRoot}
}

// imageRoots are where image records are.
func (l layout) imageRoots() []string {
	return append(l.writableRoots(), l.readOnlyRoots...)
}

// writableDir, in the graph root, has the containers' writable layers: the driver's
// directories, Stele's records of them, and what was removed and is not yet unlinked.
const writableDir = "stele-writable"

// writableRoot is the root of the driver that makes writable layers.
func (l layout) writableRoot() string { return filepath.Join(l.graphRoot, writableDir) }

// rootfsDir is what the driver keeps of a container's layer.
func (l layout) rootfsDir(id string) string { return l.layerDir(l.writableRoot(), id) }

// rootfsMount is where the driver mounts a container's root filesystem; with vfs it
// is the directory itself, and nothing is mounted.
func (l layout) rootfsMount(id string) string { return l.mountIn(l.rootfsDir(id)) }

// rootfsRecords has a file for each writable layer.
func (l layout) rootfsRecords() string { return filepath.Join(l.writableRoot(), "records") }

// removed has the layers that were removed and are not yet unlinked.
func (l layout) removed() string { return filepath.Join(l.writableRoot(), "removed") }

// libraryDir and libraryMount are rootfsDir and rootfsMount of a layer that the library has a
// record of.
func (l layout) libraryDir(id string) string   { return l.layerDir(l.graphRoot, id) }
func (l layout) libraryMount(id string) string { return l.mountIn(l.libraryDir(id)) }

func (l layout) mountIn(dir string) string {
	if l.driver == vfsDriver {
		return dir
	}
	return filepath.Join(dir, mergedDir)
}

// layerDir is what the driver keeps of a layer in one of the roots.
func (l layout) layerDir(root, id string) string {
	if l.driver == vfsDriver {
		return filepath.Join(root, vfsDriver, "dir", id)
	}
	return filepath.Join(root, overlayDriver, id)
}

// layerFiles is the directory with a layer's own files.
func (l layout) layerFiles(root, id string) string {
	if l.driver == vfsDriver {
		return l.layerDir(root, id)
	}
	return filepath.Join(l.layerDir(root, id), "diff")
}

// homes are the driver's directories in all roots in which this package may remove something.
func (l layout) homes() []string {
	homes := []string{l.driverDir(l.writableRoot())}
	for _, root := range l.writableRoots() {
		homes = append(homes, l.driverDir(root))
	}
	return homes
}

// driverDir is the driver's own directory in a root.
func (l layout) driverDir(root string) string { return filepath.Join(root, l.driver) }

// records is the directory of the records of a kind: images, layers or containers.
func (l layout) records(root, kind string) string {
	return filepath.Join(root, l.driver+"-"+kind)
}

// mounts reports whether a root filesystem is a mount.
func (l layout) mounts() bool { return l.driver != vfsDriver }

func (l layout) volumePath(id string) string {
	container, index, _ := strings.Cut(id, "-")
	return filepath.Join(l.runRoot, volumesDir, container, index)
}
