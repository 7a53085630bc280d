package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

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
	end, err := v.layers.turns.take(ctx, request.ID)
	if err != nil {
		return fail(err)
	}
	defer end()
	// The directory comes first: it leads to the volume if a crash leaves a layer without a
	// record.
	path = v.layout.volumePath(request.ID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	if _, taken, err := v.directory(request.ID); err != nil || taken {
		return fail(cmp.Or(err, fmt.Errorf("%w: it is of a directory", ErrVolumeConflict)))
	}
	record, whole, err := v.known(ctx, request, parts[1])
	if errors.Is(err, ErrVolumeConflict) {
		return fail(err)
	}
	if err == nil {
		err = v.mount(ctx, request, record, whole)
	}
	if err != nil {
		// A failed volume must not keep the image in use.
		return fail(errors.Join(err, v.unmount(context.WithoutCancel(ctx), request.ID)))
	}
	return path, nil
}

// mount makes a volume's layer and mounts it, and the requested part of it on the volume's
// path, unless that is mounted.
func (v *Volumes) mount(ctx context.Context, request MountImageRequest, record volumeRecord, whole bool) error {
	path := v.layout.volumePath(request.ID)
	mounted, err := isMountpoint(path)
	if mounted || err != nil {
		return err
	}
	layer := layerRequest{
		name: request.ID, id: volumeLayer(request.ID), imageID: record.ImageID,
		record: record, label: request.MountLabel, users: request.Users,
	}
	if !whole {
		// An earlier version of Stele may have made one that is not mounted.
		if err := v.layers.release(ctx, layer.name, layer.id); err != nil {
			return err
		}
		if err := v.layers.create(ctx, layer); err != nil {
			return err
		}
	}
	root, err := v.layers.mount(layer)
	if err != nil {
		return err
	}
	return mountDirectory(root, record.SubPath, path, IDMaps{}) // the layer is mapped
}

// known returns the volume's record, a new one if there is none, and whether its layer is whole.
func (v *Volumes) known(ctx context.Context, request MountImageRequest, owner string) (record volumeRecord, whole bool, err error) {
	record, whole, err = v.volumeRecord(request.ID)
	switch {
	case errors.Is(err, library.ErrContainerUnknown):
	case err != nil:
		return volumeRecord{}, false, err
	case record.Ref != request.Image || record.SubPath != request.SubPath:
		return volumeRecord{}, false, fmt.Errorf("%w: it is of image %q with sub path %q", ErrVolumeConflict, record.Ref, record.SubPath)
	default:
		return record, whole, nil
	}
	image, err := v.images.Resolve(ctx, request.Image)
	if err != nil {
		return volumeRecord{}, false, err
	}
	return volumeRecord{
		Owner: volumeOwner, VolumeID: request.ID, ContainerID: owner,
		ImageID: image.ID, Ref: request.Image, SubPath: request.SubPath,
	}, false, nil
}

// Unmount removes a volume, of an image or of a directory. It can be repeated, and clears
// whatever a crash left.
func (v *Volumes) Unmount(ctx context.Context, id string) error {
	if !volumeID.MatchString(id) {
		return fmt.Errorf("unmount image volume %q: %w", id, errVolumeID)
	}
	end, err := v.layers.turns.take(ctx, id)
	if err != nil {
		return fmt.Errorf("unmount image volume %s: %w", id, err)
	}
	defer end()
	return v.unmount(ctx, id)
}

func (v *Volumes) unmount(ctx context.Context, id string) error {
	path := v.layout.volumePath(id)
	lazily, err := unmount(ctx, path)
	if err != nil {
		return fmt.Errorf("unmount image volume %s: %w", id, err)
	}
	if lazily {
		v.log.Warn("an image volume was still in use when it was released", "volume", id, "mountpoint", path)
	}
	if err := v.layers.release(ctx, id, volumeLayer(id)); err != nil {
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

// recorded returns the volumes of a container that have a record.
func (v *Volumes) recorded(containerID string) (map[string]bool, error) {
	names, err := v.recordNames()
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, name := range names {
		if strings.HasPrefix(name, containerID+"-") {
			ids[name] = true
		}
	}
	if known, err := v.hasRecord(containerID); known || err != nil {
		return ids, err // and nothing was made by an earlier version, except in this boot
	}
	containers, err := v.lib.Containers()
	if err != nil {
		return nil, fmt.Errorf("read the container records: %w", err)
	}
	for i := range containers {
		if volume, ours := ownVolume(&containers[i]); ours && volume.ContainerID == containerID {
			ids[volume.VolumeID] = true
		}
	}
	return ids, nil
}

// release removes all volumes of a container: those with a record, and those with only a
// directory.
func (v *Volumes) release(ctx context.Context, containerID string) error {
	ids, err := v.recorded(containerID)
	if err != nil {
		return err
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
	records, err := v.records()
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	directories, err := v.directories()
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	var ids []string
	for _, record := range records {
		if record.volumeID != "" {
			ids = append(ids, record.volumeID)
		}
	}
	for _, volume := range directories {
		ids = append(ids, volume.volumeID)
	}
	return ids, ctx.Err()
}
