package storage

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrImageNotFound means that no image in the store answers to the reference.
	ErrImageNotFound = errors.New("image not found")
	// ErrNoIDMaps means that the ids of files cannot be mapped, as pods with user namespaces
	// need it.
	ErrNoIDMaps = errors.New("the image store cannot map ids")
	// ErrInvalidReference means that the reference is neither an id nor a name
	// that any image could have.
	ErrInvalidReference = errors.New("invalid image reference")
	// ErrImageInUse means that a container needs the image.
	// The error is an *ImageInUseError.
	ErrImageInUse = errors.New("image is in use")
	// ErrReadOnlyImage means that the image is in an additional image store: it can be used
	// but not removed.
	ErrReadOnlyImage = errors.New("image is in an additional image store, which is read-only")
	// ErrRootfsConflict means that the container's id belongs to another root filesystem:
	// of another image, or of another program.
	ErrRootfsConflict = errors.New("root filesystem conflict")
	// ErrVolumeConflict means that the id belongs to another image volume.
	ErrVolumeConflict = errors.New("image volume conflict")
	// ErrSubPath means that an image has no directory under the sub path of a volume.
	ErrSubPath = errors.New("image volume sub path")
	// ErrRootfsNotFound means that the store has no root filesystem of that id.
	ErrRootfsNotFound = errors.New("root filesystem not found")
)

// ImageInUseError names the container that keeps an image from being removed: its
// root filesystem stands on the image, or the image is one of its volumes. It may be a
// container of another program that uses the store.
type ImageInUseError struct {
	ImageID     string
	ContainerID string
}

func (e *ImageInUseError) Error() string {
	return fmt.Sprintf("image %s is in use by container %s", e.ImageID, e.ContainerID)
}

// Is makes errors.Is(err, ErrImageInUse) true.
func (e *ImageInUseError) Is(target error) bool { return target == ErrImageInUse }

// IsFull reports whether an error of this package, or of a copy into a store, means a full
// disk or an exhausted quota. Layers are unpacked by another process, whose error arrives
// as text.
func IsFull(err error) bool {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return true
	}
	return err != nil && (strings.Contains(err.Error(), unix.ENOSPC.Error()) || strings.Contains(err.Error(), unix.EDQUOT.Error()))
}
