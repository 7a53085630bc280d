package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	library "go.podman.io/storage"
	"golang.org/x/sys/unix"
)

// layers are the writable layers on top of images: those of root filesystems and those
// of volumes. A layer, its record and its mount have the same id.
type layers struct{ *disk }

// layerRequest says what a layer is made from.
type layerRequest struct {
	id, imageID, label, metadata string
	users                        IDMaps
}

// create makes a record, and a writable layer on top of an image, both of the given id. It
// replaces the leftovers of an interrupted creation, and removes its own when it fails.
func (l *layers) create(request layerRequest) error {
	id, imageID, label, metadata := request.id, request.imageID, request.label, request.metadata
	options := &library.ContainerOptions{
		IDMappingOptions: request.users.options(),
		LabelOpts:        []string{"disable"}, // the caller chooses labels, not the library
		Flags:            map[string]any{},
		Volatile:         true,
	}
	if label != "" {
		// The library wants both or none, and uses only the first.
		options.Flags["MountLabel"] = label
		options.Flags["ProcessLabel"] = label
	}
	create := func() error {
		_, err := l.lib.CreateContainer(id, nil, imageID, id, metadata, options)
		return err
	}
	err := create()
	if errors.Is(err, library.ErrDuplicateID) {
		if record, recordErr := l.lib.Container(id); recordErr == nil {
			if record.Metadata != metadata {
				return fmt.Errorf("%w: another record of that id was made meanwhile", ErrRootfsConflict)
			}
			return nil // made meanwhile by another call for the same container
		}
		// A creation was cut off after the layer and before the record.
		if err := l.remove(id); err != nil {
			return err
		}
		err = create()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, library.ErrImageUnknown):
		return fmt.Errorf("%w: image %s was removed", ErrImageNotFound, imageID)
	}
	err = fmt.Errorf("create its layer: %w", err)
	if _, recordErr := l.lib.Container(id); errors.Is(recordErr, library.ErrContainerUnknown) {
		err = errors.Join(err, l.freeing(func() error { return l.remove(id) }))
	}
	return err
}

// mount mounts a container's layer unless it is mounted, and returns where. The library
// counts mounts in its run root, and the kernel knows what is mounted; after a crash they
// may differ. With a count of zero the library mounts, or adopts a mount that it had not
// counted. A count that is right must not grow with every repetition.
func (l *layers) mount(id, label string) (string, error) {
	layer, err := l.lib.Layer(id)
	if err != nil {
		return "", fmt.Errorf("read the record of its layer: %w", err)
	}
	mountpoint := layer.MountPoint
	mounted := false
	if layer.MountCount > 0 {
		if mounted, err = l.isMounted(mountpoint); err != nil {
			return "", err
		}
	}
	if !mounted {
		if mountpoint, err = l.lib.Mount(id, label); err != nil {
			return "", fmt.Errorf("mount its layer: %w", err)
		}
		if mounted, err = l.isMounted(mountpoint); err != nil {
			return "", err
		}
		if !mounted {
			return "", fmt.Errorf("mount its layer: the library reports success, but nothing is mounted on %s", mountpoint)
		}
	}
	if !l.layout.mounts() {
		return mountpoint, nil
	}
	if err := unix.Mount("", mountpoint, "", unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make the mount on %s private: %w", mountpoint, err)
	}
	return mountpoint, nil
}

// isMounted reports whether a root filesystem is usable at the path: mounted, or with a
// driver that doesn't mount, present.
func (l *layers) isMounted(path string) (bool, error) {
	if l.layout.mounts() {
		return isMountpoint(path)
	}
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// release undoes mount and create, as far as they got.
func (l *layers) release(ctx context.Context, id string) error {
	if err := l.unmount(ctx, id); err != nil {
		return err
	}
	return l.freeing(func() error {
		if err := l.lib.DeleteContainer(id); err != nil && !isGone(err) {
			return fmt.Errorf("remove its record and layer: %w", err)
		}
		return l.remove(id)
	})
}

// unmount unmounts by path, without the library, which would trust a count that a crash may
// have falsified. It notices that the mount is gone when it removes the layer.
func (l *layers) unmount(ctx context.Context, id string) error {
	mountpoint := l.layout.rootfsMount(id)
	lazily, err := unmount(ctx, mountpoint)
	if err != nil {
		return err
	}
	if lazily {
		l.log.Warn("a root filesystem was still in use when it was released", "container", id, "mountpoint", mountpoint)
	}
	return l.detachMapped(id)
}

// detachMapped detaches the image's layers from a container's directory, where the library has them
// with mapped ids while it mounts a root filesystem: a process that is killed then leaves them
// there, and who removed that directory would remove the files of the image.
func (l *layers) detachMapped(id string) error {
	dir := filepath.Join(l.layout.rootfsDir(id), mappedDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for layers that are mounted with mapped ids: %w", err)
	}
	for _, entry := range entries {
		if err := detach(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a container's layer that no record refers to, and files of
// the driver that no layer refers to.
func (l *layers) remove(id string) error {
	if err := l.detachMapped(id); err != nil {
		return err
	}
	if err := l.lib.DeleteLayer(id); err != nil && !isGone(err) {
		return fmt.Errorf("remove its layer: %w", err)
	}
	if _, err := os.Lstat(l.layout.rootfsDir(id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	driver, err := l.lib.GraphDriver()
	if err != nil {
		return fmt.Errorf("reach the graph driver: %w", err)
	}
	if err := driver.Remove(id); err != nil {
		return fmt.Errorf("remove files of a layer that has no record: %w", err)
	}
	return nil
}

func isGone(err error) bool {
	return errors.Is(err, library.ErrNotAContainer) || errors.Is(err, library.ErrContainerUnknown) ||
		errors.Is(err, library.ErrNotALayer) || errors.Is(err, library.ErrLayerUnknown)
}
