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

// VolumeID names an image volume: the one that is first, second, … among a
// container's mounts. It is what MountImageRequest.ID must look like.
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
	// SubPath is a directory in the image: relative, without "..". When it is empty
	// the whole image is meant.
	SubPath string
	// MountLabel is the SELinux label of all files; it must be empty where SELinux
	// is off.
	MountLabel string
}

// MountImage mounts an image's root filesystem, or a directory of it, read-only, and
// says where. Nothing in it can be executed, no device opened, no set-user-id bit
// counts; a container's own mount of the path may allow less, and only an
// administrator's may allow more.
//
// It can be repeated after success, also of a daemon that has gone since, and after a
// crash at any point: the volume stays of the image that it was first made of, although
// the name may stand for another one now. While there is the volume, the image is in
// use. Unmount takes it away, and Rootfses.Release all volumes of its container.
//
// It fails with ErrImageNotFound, with ErrSubPath if there is no such directory in the
// image, or with ErrVolumeConflict if the id is that of another volume.
//
// Each volume has a layer of its own on top of the image, which stays empty: if a
// privileged container finds a way to write nevertheless, it writes there, and neither
// the image nor another container sees it.
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
	// The directory goes first: by it the volume is found should a crash leave a layer
	// without a record.
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
		// Nothing stays in anybody's way: the image is not in use by a volume that
		// there isn't.
		return fail(errors.Join(err, v.Unmount(context.WithoutCancel(ctx), request.ID)))
	}
	return path, nil
}

// mount mounts a volume's layer, and of that what was asked for on path, unless
// it is there.
func (v *Volumes) mount(request MountImageRequest, subPath, path string) error {
	mounted, err := isMountpoint(path)
	if mounted || err != nil {
		return err
	}
	root, err := v.layers.mount(volumeLayer(request.ID), request.MountLabel)
	if err != nil {
		return err
	}
	return mountDirectory(root, subPath, path)
}

// ensure sees to it that the volume's record and layer are there.
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
		// A removal was cut off after the layer and before the record.
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
	return record, v.layers.create(id, record.ImageID, request.MountLabel, string(metadata))
}

// Unmount takes a volume away, of an image or of a directory. It can be repeated, and clears whatever a
// crash left. What is gone already is removed.
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
	// The directory last: by it the volume is found.
	for _, left := range []string{path + directoryRecord + ".new", path + directoryRecord, path} {
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("unmount image volume %s: %w", id, err)
		}
	}
	// The container's directory goes with its last volume.
	_ = os.Remove(filepath.Dir(path))
	return nil
}

// release takes all image volumes of a container away: those that there are
// records of, and those of which there is but a directory.
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

// List gives the ids of the volumes that the store has, mounted or not.
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
