package storage

import (
	"context"
	"errors"
	"fmt"
	"os"

	library "go.podman.io/storage"
)

// ReleaseRootfs unmounts a container's root filesystem and removes its layer and
// record, and so its image volumes. It can be repeated, and clears whatever a crash
// left: a mount that nobody counted, a layer without a record, a record without a
// layer, files without either. What is gone already is removed.
//
// The container must have ended. If something holds a mount nevertheless, it is
// detached after some tries, and goes when it is let go of.
func (s *Store) ReleaseRootfs(ctx context.Context, id string) error {
	if !containerID.MatchString(id) {
		return fmt.Errorf("release root filesystem: container id %q is not 64 hexadecimal digits", id)
	}
	_, err := s.rootfsRecord(id)
	if err != nil && !errors.Is(err, ErrRootfsNotFound) {
		return fmt.Errorf("release root filesystem of %s: %w", id, err)
	}
	if err := errors.Join(s.releaseVolumes(ctx, id), s.releaseLayer(ctx, id)); err != nil {
		return fmt.Errorf("release root filesystem of %s: %w", id, err)
	}
	return nil
}

// releaseLayer undoes ensureMounted and createLayer, or as much of them as was done.
func (s *Store) releaseLayer(ctx context.Context, id string) error {
	if err := s.unmountRootfs(ctx, id); err != nil {
		return err
	}
	return s.freeing(func() error {
		if err := s.lib.DeleteContainer(id); err != nil && !isGone(err) {
			return fmt.Errorf("remove its record and layer: %w", err)
		}
		return s.removeLayer(id)
	})
}

// unmountRootfs unmounts by the path, without asking the library: it would trust a
// count that a crash may have falsified. When the library removes the layer it
// notices that the mount is gone.
func (s *Store) unmountRootfs(ctx context.Context, id string) error {
	mountpoint := s.layout.rootfsMount(id)
	lazily, err := unmount(ctx, mountpoint)
	if err != nil {
		return err
	}
	if lazily {
		s.log.Warn("a root filesystem was still in use when it was released", "container", id, "mountpoint", mountpoint)
	}
	return nil
}

// removeLayer removes a container's layer that no record refers to, and files of
// the driver that no layer refers to.
func (s *Store) removeLayer(id string) error {
	if err := s.lib.DeleteLayer(id); err != nil && !isGone(err) {
		return fmt.Errorf("remove its layer: %w", err)
	}
	if _, err := os.Lstat(s.layout.rootfsDir(id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	driver, err := s.lib.GraphDriver()
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
