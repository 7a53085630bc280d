package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/distribution/reference"
	library "go.podman.io/storage"
)

// Remove makes ref no longer point to an image. Given a name it takes that name from its
// image, and the image goes with its last name; a name with a digest stands for all names
// that the image has in that repository. Given an id it removes the image with all its
// names. An image that a container uses stays whole, and the error is an *ImageInUseError.
// An image that is gone counts as removed.
func (m *Images) Remove(ctx context.Context, ref string) error {
	found, err := m.resolve(ctx, ref)
	if errors.Is(err, ErrImageNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	if found.image.readOnly {
		return fmt.Errorf("remove image %q: %w", ref, ErrReadOnlyImage)
	}
	record, err := m.lib.Image(found.image.ID)
	if errors.Is(err, library.ErrImageUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image %q: read its record: %w", ref, err)
	}
	dropped := namesMeant(record.Names, found.name)
	if found.name == nil || len(dropped) == len(record.Names) {
		return m.delete(ctx, record.ID)
	}
	err = m.freeing(func() error { return m.lib.RemoveNames(record.ID, dropped) })
	if err != nil && !errors.Is(err, library.ErrImageUnknown) {
		return fmt.Errorf("remove image %q: take its name from %s: %w", ref, record.ID, err)
	}
	return nil
}

// namesMeant returns those of an image's names that a user's name stands for.
func namesMeant(names []string, meant reference.Named) []string {
	if meant == nil {
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		if !isDigested(meant) {
			return name != meant.String()
		}
		named, err := reference.ParseNormalizedNamed(name)
		return err != nil || named.Name() != meant.Name()
	})
}

// removals counts the removals of images by this process.
type removals struct{ begun, ended atomic.Uint64 }

// Removals returns how many removals of images have ended. (A removal cannot wait for
// pulls, which take as long as a registry likes.)
func (m *Images) Removals() uint64 { return m.removals.ended.Load() }

// RemovedSince reports whether any image was being removed since Removals returned ended.
// A pull that fails meanwhile may have lost layers to a removal, and should be retried.
func (m *Images) RemovedSince(ended uint64) bool { return m.removals.begun.Load() > ended }

// dropTries bounds how often an image's hold is dropped for its removal, each time made again
// by a container whose creation then failed.
const dropTries = 8

func (m *Images) delete(ctx context.Context, id string) error {
	m.removals.begun.Add(1)
	defer m.removals.ended.Add(1)
	var err error
	for range dropTries {
		if _, err := m.holds.drop(ctx, id); err != nil {
			return fmt.Errorf("remove image %s: %w", id, err)
		}
		err = m.freeing(func() error {
			_, err := m.lib.DeleteImage(id, true)
			return err
		})
		if !errors.Is(err, library.ErrImageUsedByContainer) {
			break
		}
		if inUse := m.inUse(id, err); inUse != nil {
			return inUse
		}
	}
	switch {
	case errors.Is(err, library.ErrNotAnImage), errors.Is(err, library.ErrImageUnknown):
		return nil
	case errors.Is(err, library.ErrImageUsedByContainer):
		return fmt.Errorf("remove image %s: %w: %w", id, ErrImageInUse, err)
	case err == nil:
		m.removeLostLinks()
		return nil
	}
	record, gone := m.lib.Image(id)
	if errors.Is(gone, library.ErrImageUnknown) || gone == nil && record.ReadOnly {
		// The record goes first. A layer that could not be removed after it is an orphan
		// now, and is collected as such; or it is in an additional image store.
		if !errors.Is(err, library.ErrLayerUnknown) {
			m.log.Warn("an image was removed, but not all of its layers", "image", id, "error", err)
		}
		m.removeLostLinks()
		return nil
	}
	return fmt.Errorf("remove image %s: %w", id, err)
}

// inUse returns an *ImageInUseError, or nil if nothing uses the image but its hold.
func (m *Images) inUse(imageID string, cause error) error {
	users, err := m.usersOf(imageID)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", imageID, errors.Join(cause, err))
	}
	if len(users) > 0 {
		return &ImageInUseError{ImageID: imageID, ContainerID: users[0].containerID}
	}
	containers, err := m.lib.Containers()
	if err != nil {
		return fmt.Errorf("remove image %s: %w", imageID, errors.Join(cause, err))
	}
	for i := range containers {
		if _, isHold := ownHold(&containers[i]); containers[i].ImageID == imageID && !isHold {
			return &ImageInUseError{ImageID: imageID, ContainerID: containers[i].ID}
		}
	}
	return nil
}
