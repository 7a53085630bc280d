package storage

import (
	"context"
	"errors"
	"fmt"
	"os"

	library "go.podman.io/storage"
	"go.podman.io/storage/types"
)

// libraryLayers are the writable layers that the library has records of: those that hold images
// (holds.go), and those of root filesystems and volumes that earlier versions of Stele made. A
// layer, its record and its mount have the same id.
type libraryLayers struct{ *disk }

// create makes a record, and a writable layer on top of an image, both of the given id. It
// replaces the leftovers of an interrupted creation, and removes its own when it fails.
func (l *libraryLayers) create(id, imageID, metadata string) error {
	options := &library.ContainerOptions{
		IDMappingOptions: types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true},
		LabelOpts:        []string{"disable"}, // the caller chooses labels, not the library
		Flags:            map[string]any{},
		Volatile:         true,
	}
	create := func() error {
		_, err := l.lib.CreateContainer(id, nil, imageID, id, metadata, options)
		return err
	}
	err := create()
	if errors.Is(err, library.ErrDuplicateID) {
		if _, recordErr := l.lib.Container(id); recordErr == nil {
			return nil // made meanwhile
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

// release undoes creation and mount, as far as they got.
func (l *libraryLayers) release(ctx context.Context, id string) error {
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
func (l *libraryLayers) unmount(ctx context.Context, id string) error {
	mountpoint := l.layout.libraryMount(id)
	lazily, err := unmount(ctx, mountpoint)
	if err != nil {
		return err
	}
	if lazily {
		l.log.Warn("a root filesystem was still in use when it was released", "container", id, "mountpoint", mountpoint)
	}
	return detachLower(l.layout.libraryDir(id))
}

// remove removes a container's layer that no record refers to, and files of
// the driver that no layer refers to.
func (l *libraryLayers) remove(id string) error {
	if err := detachLower(l.layout.libraryDir(id)); err != nil {
		return err
	}
	if err := l.lib.DeleteLayer(id); err != nil && !isGone(err) {
		return fmt.Errorf("remove its layer: %w", err)
	}
	if _, err := os.Lstat(l.layout.libraryDir(id)); errors.Is(err, os.ErrNotExist) {
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
