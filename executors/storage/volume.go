package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	library "go.podman.io/storage"
)

// volumesDir, in the run root, has a directory for each container with the mounts of
// its image volumes.
const volumesDir = "stele-volumes"

var volumeID = regexp.MustCompile(`^([0-9a-f]{64})-([0-9]{1,4})$`)

var errVolumeID = errors.New("the id is not a container's id, a hyphen and a number")

// VolumeID returns the id of an image volume, by its index among the container's mounts.
// MountImageRequest.ID must be one.
func VolumeID(containerID string, index int) string {
	return containerID + "-" + strconv.Itoa(index)
}

// Volumes are read-only views of images, and of directories of the host, for containers.
type Volumes struct {
	*disk
	layers *layers
	images *Images
}

// MountImageRequest asks for an image's files as a volume of a container (the CRI's
// Mount.image; KEP-4639).
type MountImageRequest struct {
	// ID names the volume and its owner: see VolumeID.
	ID string
	// Image is whatever Resolve understands.
	Image string
	// SubPath is a directory in the image: relative, without ".."; empty for the whole
	// image.
	SubPath string
	// MountLabel is the SELinux label of all files; it must be empty where SELinux
	// is off.
	MountLabel string
	// SharedLabel is that of an artifact's files, which all containers have in common.
	SharedLabel string
	// Users are the mappings of the container's user namespace.
	Users IDMaps
}

// MountImage mounts an image's root filesystem, or a directory of it, read-only,
// nodev and nosuid, and returns where. A container's own mount of the path may allow less;
// only an administrator's may allow more.
//
// It can be repeated, also by the next daemon and after a crash at any point: the volume
// keeps its first image, even if the name stands for another one now. The image is in use
// as long as the volume exists. Unmount removes it, and Rootfses.Release all volumes of its
// container.
//
// It fails with ErrImageNotFound, with ErrSubPath if the image has no such directory, or
// with ErrVolumeConflict if the id belongs to another volume.
//
// Each volume has a layer of its own on top of the image, which stays empty: if a
// privileged container finds a way to write, it writes there, and neither the image nor
// another container sees it.
func (v *Volumes) MountImage(ctx context.Context, request MountImageRequest) (path string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("mount image %q as volume %s: %w", request.Image, request.ID, err)
	}
	parts := volumeID.FindStringSubmatch(request.ID)
	if parts == nil {
		return fail(errVolumeID)
	}
	if err := checkSubPath(request.SubPath); err != nil {
		return fail(err)
	}
	if err := v.layers.canMap(request.Users); err != nil {
		return fail(err)
	}
	// The directory comes first: it leads to the volume if a crash leaves a layer without a
	// record.
	path = v.layout.volumePath(request.ID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	if _, taken, err := v.directory(request.ID); err != nil || taken {
		return fail(cmp.Or(err, fmt.Errorf("%w: it is of a directory", ErrVolumeConflict)))
	}
	record, err := v.ensure(ctx, request, parts[1])
	if errors.Is(err, ErrVolumeConflict) {
		return fail(err)
	}
	if err != nil {
		return fail(errors.Join(err, v.Unmount(context.WithoutCancel(ctx), request.ID)))
	}
	if err := v.mount(request, record.SubPath, path); err != nil {
		// A failed volume must not keep the image in use.
		return fail(errors.Join(err, v.Unmount(context.WithoutCancel(ctx), request.ID)))
	}
	return path, nil
}

// mount mounts a volume's layer, and the requested part of it on path, unless it is
// mounted.
func (v *Volumes) mount(request MountImageRequest, subPath, path string) error {
	mounted, err := isMountpoint(path)
	if mounted || err != nil {
		return err
	}
	root, err := v.layers.mount(volumeLayer(request.ID), request.MountLabel)
	if err != nil {
		return err
	}
	return mountDirectory(root, subPath, path, IDMaps{}) // the layer is mapped
}

// ensure makes the volume's record and layer, unless they exist.
func (v *Volumes) ensure(ctx context.Context, request MountImageRequest, owner string) (volumeRecord, error) {
	id := volumeLayer(request.ID)
	record, err := v.volumeRecord(id)
	if err == nil {
		if record.Ref != request.Image || record.SubPath != request.SubPath {
			return volumeRecord{}, fmt.Errorf("%w: it is of image %q with sub path %q", ErrVolumeConflict, record.Ref, record.SubPath)
		}
		_, err := v.lib.Layer(id)
		if err == nil {
			return record, nil
		}
		if !errors.Is(err, library.ErrLayerUnknown) {
			return volumeRecord{}, fmt.Errorf("read the record of its layer: %w", err)
		}
		// A removal was interrupted between layer and record.
		if err := v.lib.DeleteContainer(id); err != nil && !isGone(err) {
			return volumeRecord{}, fmt.Errorf("remove a record without a layer: %w", err)
		}
	} else if !errors.Is(err, library.ErrContainerUnknown) {
		return volumeRecord{}, err
	} else {
		image, err := v.images.Resolve(ctx, request.Image)
		if err != nil {
			return volumeRecord{}, err
		}
		record = volumeRecord{
			Owner: volumeOwner, VolumeID: request.ID, ContainerID: owner,
			ImageID: image.ID, Ref: request.Image, SubPath: request.SubPath,
		}
	}
	metadata, err := json.Marshal(record)
	if err != nil {
		return volumeRecord{}, fmt.Errorf("encode its record: %w", err)
	}
	return record, v.layers.create(layerRequest{id, record.ImageID, request.MountLabel, string(metadata), request.Users})
}

// Unmount removes a volume, of an image or of a directory. It can be repeated, and clears
// whatever a crash left.
func (v *Volumes) Unmount(ctx context.Context, id string) error {
	if !volumeID.MatchString(id) {
		return fmt.Errorf("unmount image volume %q: %w", id, errVolumeID)
	}
	path := v.layout.volumePath(id)
	lazily, err := unmount(ctx, path)
	if err != nil {
		return fmt.Errorf("unmount image volume %s: %w", id, err)
	}
	if lazily {
		v.log.Warn("an image volume was still in use when it was released", "volume", id, "mountpoint", path)
	}
	if err := v.layers.release(ctx, volumeLayer(id)); err != nil {
		return fmt.Errorf("unmount image volume %s: %w", id, err)
	}
	// The directory goes last: it leads to the volume.
	for _, left := range []string{path + directoryRecord + ".new", path + directoryRecord, path} {
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("unmount image volume %s: %w", id, err)
		}
	}
	// The container's directory goes with its last volume.
	_ = os.Remove(filepath.Dir(path))
	return nil
}

// release removes all volumes of a container: those with a record, and those with only a
// directory.
func (v *Volumes) release(ctx context.Context, containerID string) error {
	volumes, err := v.volumeRecords()
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, volume := range volumes {
		if volume.ContainerID == containerID {
			ids[volume.VolumeID] = true
		}
	}
	begun, err := os.ReadDir(filepath.Join(v.layout.runRoot, volumesDir, containerID))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for image volumes: %w", err)
	}
	for _, directory := range begun {
		if id := containerID + "-" + directory.Name(); volumeID.MatchString(id) {
			ids[id] = true
		}
	}
	var failed error
	for id := range ids {
		failed = errors.Join(failed, v.Unmount(ctx, id))
	}
	return failed
}

// List returns the ids of all volumes in the store, mounted or not.
func (v *Volumes) List(ctx context.Context) ([]string, error) {
	volumes, err := v.volumeRecords()
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	directories, err := v.directories()
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	var ids []string
	for _, volume := range volumes {
		ids = append(ids, volume.VolumeID)
	}
	for _, volume := range directories {
		ids = append(ids, volume.volumeID)
	}
	return ids, ctx.Err()
}
