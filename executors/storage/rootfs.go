package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerID is what a container's id must look like; it becomes a directory's name.
var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Rootfses are the root filesystems of containers: each is a record, a layer and a mount,
// and every method starts by asking which of the three exist.
type Rootfses struct {
	*disk
	layers  *layers
	images  *Images
	volumes *Volumes
	usage   *Usage
}

// RootfsRequest asks for a container's root filesystem.
type RootfsRequest struct {
	// ContainerID names the root filesystem: 64 hexadecimal digits.
	ContainerID string
	// ImageID is an Image's ID.
	ImageID string
	// Labels are kept with the record, for people who look at the store.
	Labels map[string]string
	// MountLabel is the SELinux label of all files; it must be empty where SELinux
	// is off.
	MountLabel string
	// Users are the mappings of the container's user namespace: files show the ids of the
	// node that those of the image are mapped to.
	Users IDMaps
}

// Rootfs is a mounted root filesystem.
type Rootfs struct {
	// Mountpoint is an absolute path. The mount is writable (an OCI runtime has to
	// make mountpoints in it; a read-only root is its business) and private: what
	// is mounted under it in a container doesn't appear on the host.
	Mountpoint string
	ImageID    string
	Config     *imagespec.Image
}

// Prepare makes a writable layer on top of an image and mounts it. It can be repeated, also
// after a crash at any point: it keeps what is whole of record, layer and mount, and
// replaces what is not. It fails with ErrImageNotFound, or with ErrRootfsConflict if the id
// is taken by another root filesystem.
//
// Record and layer are written without syncing, since no container survives a power failure.
// For the same reason fsync inside a container doesn't wait for the disk, as with CRI-O.
func (r *Rootfses) Prepare(ctx context.Context, request RootfsRequest) (Rootfs, error) {
	if !containerID.MatchString(request.ContainerID) {
		return Rootfs{}, fmt.Errorf("prepare root filesystem: container id %q is not 64 hexadecimal digits", request.ContainerID)
	}
	image, err := r.images.byID(ctx, request.ImageID)
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	if image.Config == nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: image %s has no readable configuration",
			request.ContainerID, image.ID)
	}
	if err := r.layers.canMap(request.Users); err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	end, err := r.layers.turns.take(ctx, request.ContainerID)
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	defer end()
	mountpoint, err := r.prepare(ctx, request)
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	return Rootfs{Mountpoint: mountpoint, ImageID: image.ID, Config: image.Config}, nil
}

// prepare makes the container's record and layer, unless they are there and belong together,
// and mounts it.
func (r *Rootfses) prepare(ctx context.Context, request RootfsRequest) (mountpoint string, err error) {
	layer := layerRequest{
		name: request.ContainerID, id: request.ContainerID, imageID: request.ImageID,
		record: rootfsRecord{Owner: rootfsOwner, ImageID: request.ImageID, Labels: request.Labels},
		label:  request.MountLabel, users: request.Users,
	}
	var known rootfsRecord
	whole, err := r.readRecord(layer.name, layer.id, &known)
	switch {
	case err != nil:
		return "", err
	case whole && known.ImageID != request.ImageID:
		return "", standsOn(known.ImageID, request.ImageID)
	case whole:
		return r.layers.mount(layer)
	}
	if mountpoint, err := r.adopt(ctx, request); mountpoint != "" || err != nil {
		return mountpoint, err
	}
	if err := r.layers.create(ctx, layer); err != nil {
		return "", err
	}
	r.usage.measureNew(request.ContainerID)
	return r.layers.mount(layer)
}

func standsOn(is, wanted string) error {
	return fmt.Errorf("%w: it stands on image %s, not on %s", ErrRootfsConflict, is, wanted)
}

// adopt returns the root filesystem that an earlier version of Stele made for the container,
// and removes what is not mounted: no container runs there.
func (r *Rootfses) adopt(ctx context.Context, request RootfsRequest) (mountpoint string, err error) {
	record, err := r.libraryRootfs(request.ContainerID)
	switch {
	case errors.Is(err, ErrRootfsNotFound):
		// The driver would take the files for the new layer's.
		if _, err := os.Lstat(r.layout.libraryDir(request.ContainerID)); errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
		return "", r.layers.library.release(ctx, request.ContainerID)
	case err != nil:
		return "", err
	case record.ImageID != request.ImageID:
		return "", standsOn(record.ImageID, request.ImageID)
	}
	mountpoint = r.layout.libraryMount(request.ContainerID)
	mounted, err := r.isMounted(mountpoint)
	if mounted || err != nil {
		return mountpoint, err
	}
	return "", r.layers.library.release(ctx, request.ContainerID)
}

// List returns the ids of the containers whose root filesystems Stele made, whole or not.
func (r *Rootfses) List(ctx context.Context) ([]string, error) {
	records, err := r.records()
	if err != nil {
		return nil, fmt.Errorf("list root filesystems: %w", err)
	}
	var ids []string
	for _, record := range records {
		if record.volumeID == "" {
			ids = append(ids, record.containerID)
		}
	}
	return ids, ctx.Err()
}

// Release unmounts a container's root filesystem and removes its layer and record, and its
// image volumes likewise. It can be repeated, and clears whatever a crash left: a mount
// that nobody counted, a layer without a record, a record without a layer, files without
// either.
//
// The container must have ended. A mount that is still busy is detached after some tries. The
// files are only renamed; they are unlinked afterwards, if need be by the next daemon.
func (r *Rootfses) Release(ctx context.Context, id string) error {
	if !containerID.MatchString(id) {
		return fmt.Errorf("release root filesystem: container id %q is not 64 hexadecimal digits", id)
	}
	end, err := r.layers.turns.take(ctx, id)
	if err != nil {
		return fmt.Errorf("release root filesystem of %s: %w", id, err)
	}
	defer end()
	_, err = r.rootfsRecord(id)
	if err != nil && !errors.Is(err, ErrRootfsNotFound) {
		return fmt.Errorf("release root filesystem of %s: %w", id, err)
	}
	if err := errors.Join(r.volumes.release(ctx, id), r.layers.release(ctx, id, id)); err != nil {
		return fmt.Errorf("release root filesystem of %s: %w", id, err)
	}
	return nil
}

// Collect releases, at the start of a boot, the root filesystems of unknown containers, and
// returns whose. Removals are not synced: if the node loses power right after one, the
// files, or the library's record of them, may be back. A mounted one was made in this boot
// by another user of the store, and is left alone.
func (r *Rootfses) Collect(ctx context.Context, known func(id string) bool) (released []string, err error) {
	records, err := r.records()
	if err != nil {
		return nil, err
	}
	var ids []string
	mountpoints := map[string]string{}
	for _, record := range records {
		ids = append(ids, record.containerID)
		if record.volumeID == "" {
			mountpoints[record.containerID] = record.mountpoint(r.layout)
		}
	}
	slices.Sort(ids)
	var failed error
	for _, id := range slices.Compact(ids) {
		if known(id) {
			continue
		}
		var mounted bool
		var err error
		if mountpoint, hasRootfs := mountpoints[id]; hasRootfs {
			mounted, err = r.isMounted(mountpoint)
		}
		if mounted {
			continue
		}
		if err == nil {
			err = r.Release(ctx, id)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		released = append(released, id)
	}
	return released, failed
}
