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
	"strings"

	"github.com/opencontainers/go-digest"
	library "go.podman.io/storage"
)

// volumeOwner marks the container records that stand for image volumes of Stele. It is
// on disk: do not change it.
const volumeOwner = "stele.volume.v1"

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

// volumeRecord is the metadata of an image volume's record, on disk as JSON.
type volumeRecord struct {
	Owner       string `json:"owner"`
	VolumeID    string `json:"volume"`
	ContainerID string `json:"container"`
	ImageID     string `json:"image"`
	Ref         string `json:"ref"` // as it was asked for
	SubPath     string `json:"subPath,omitempty"`
}

// MountImage mounts an image's root filesystem, or a directory of it, read-only, and
// says where. Nothing in it can be executed, no device opened, no set-user-id bit
// counts; a container's own mount of the path may allow less, and only an
// administrator's may allow more.
//
// It can be repeated after success, also of a daemon that has gone since, and after a
// crash at any point: the volume stays of the image that it was first made of, although
// the name may stand for another one now. While there is the volume, the image is in
// use. UnmountImage takes it away, and ReleaseRootfs all volumes of its container.
//
// It fails with ErrImageNotFound, with ErrSubPath if there is no such directory in the
// image, or with ErrVolumeConflict if the id is that of another volume.
//
// Each volume has a layer of its own on top of the image, which stays empty: if a
// privileged container finds a way to write nevertheless, it writes there, and neither
// the image nor another container sees it.
func (s *Store) MountImage(ctx context.Context, request MountImageRequest) (path string, err error) {
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
	path = s.volumePath(request.ID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	if _, taken, err := s.directoryVolume(request.ID); err != nil || taken {
		return fail(cmp.Or(err, fmt.Errorf("%w: it is of a directory", ErrVolumeConflict)))
	}
	record, err := s.ensureVolume(ctx, request, parts[1])
	if errors.Is(err, ErrVolumeConflict) {
		return fail(err)
	}
	if err != nil {
		return fail(errors.Join(err, s.UnmountImage(context.WithoutCancel(ctx), request.ID)))
	}
	if err := s.mountVolume(request, record.SubPath, path); err != nil {
		// Nothing stays in anybody's way: the image is not in use by a volume that
		// there isn't.
		return fail(errors.Join(err, s.UnmountImage(context.WithoutCancel(ctx), request.ID)))
	}
	return path, nil
}

// mountVolume mounts a volume's layer, and of that what was asked for on path, unless
// it is there.
func (s *Store) mountVolume(request MountImageRequest, subPath, path string) error {
	mounted, err := isMountpoint(path)
	if mounted || err != nil {
		return err
	}
	root, err := s.ensureMounted(volumeLayer(request.ID), request.MountLabel)
	if err != nil {
		return err
	}
	return mountDirectory(root, subPath, path)
}

// ensureVolume sees to it that the volume's record and layer are there.
func (s *Store) ensureVolume(ctx context.Context, request MountImageRequest, owner string) (volumeRecord, error) {
	id := volumeLayer(request.ID)
	record, err := s.volumeRecord(id)
	if err == nil {
		if record.Ref != request.Image || record.SubPath != request.SubPath {
			return volumeRecord{}, fmt.Errorf("%w: it is of image %q with sub path %q", ErrVolumeConflict, record.Ref, record.SubPath)
		}
		_, err := s.lib.Layer(id)
		if err == nil {
			return record, nil
		}
		if !errors.Is(err, library.ErrLayerUnknown) {
			return volumeRecord{}, fmt.Errorf("read the record of its layer: %w", err)
		}
		// A removal was cut off after the layer and before the record.
		if err := s.lib.DeleteContainer(id); err != nil && !isGone(err) {
			return volumeRecord{}, fmt.Errorf("remove a record without a layer: %w", err)
		}
	} else if !errors.Is(err, library.ErrContainerUnknown) {
		return volumeRecord{}, err
	} else {
		image, err := s.Resolve(ctx, request.Image)
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
	return record, s.createLayer(id, record.ImageID, request.MountLabel, string(metadata))
}

// UnmountImage takes a volume away, of an image or of a directory. It can be repeated, and clears whatever a
// crash left. What is gone already is removed.
func (s *Store) UnmountImage(ctx context.Context, id string) error {
	if !volumeID.MatchString(id) {
		return fmt.Errorf("unmount image volume %q: %w", id, errVolumeID)
	}
	path := s.volumePath(id)
	lazily, err := unmount(ctx, path)
	if err != nil {
		return fmt.Errorf("unmount image volume %s: %w", id, err)
	}
	if lazily {
		s.log.Warn("an image volume was still in use when it was released", "volume", id, "mountpoint", path)
	}
	if err := s.releaseLayer(ctx, volumeLayer(id)); err != nil {
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

// releaseVolumes takes all image volumes of a container away: those that there are
// records of, and those of which there is but a directory.
func (s *Store) releaseVolumes(ctx context.Context, containerID string) error {
	volumes, err := s.volumes()
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, volume := range volumes {
		if volume.ContainerID == containerID {
			ids[volume.VolumeID] = true
		}
	}
	begun, err := os.ReadDir(filepath.Join(s.layout.runRoot, volumesDir, containerID))
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
		failed = errors.Join(failed, s.UnmountImage(ctx, id))
	}
	return failed
}

// Volumes gives the ids of the volumes that the store has, mounted or not.
func (s *Store) Volumes(ctx context.Context) ([]string, error) {
	volumes, err := s.volumes()
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	directories, err := s.directoryVolumes()
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

func (s *Store) volumes() ([]volumeRecord, error) {
	containers, err := s.lib.Containers()
	if err != nil {
		return nil, fmt.Errorf("read the container records: %w", err)
	}
	var volumes []volumeRecord
	for i := range containers {
		if record, ours := ownVolume(&containers[i]); ours {
			volumes = append(volumes, record)
		}
	}
	return volumes, nil
}

// volumeRecord reads the record of a volume's layer. It fails with the library's
// ErrContainerUnknown, or with ErrVolumeConflict when the record is something else's.
func (s *Store) volumeRecord(id string) (volumeRecord, error) {
	container, err := s.lib.Container(id)
	if err != nil {
		return volumeRecord{}, fmt.Errorf("read its record: %w", err)
	}
	record, ours := ownVolume(container)
	if !ours {
		return volumeRecord{}, fmt.Errorf("%w: the record of its layer's id in the store is another program's", ErrVolumeConflict)
	}
	return record, nil
}

func ownVolume(container *library.Container) (volumeRecord, bool) {
	if !strings.Contains(container.Metadata, volumeOwner) {
		return volumeRecord{}, false
	}
	var record volumeRecord
	err := json.Unmarshal([]byte(container.Metadata), &record)
	return record, err == nil && record.Owner == volumeOwner && volumeLayer(record.VolumeID) == container.ID
}

// volumeLayer is the id of a volume's record and layer. It looks like any other, as
// the library wants it, and cannot be a container's.
func volumeLayer(id string) string {
	return digest.FromString("image volume " + id).Encoded()
}

func (s *Store) volumePath(id string) string {
	container, index, _ := strings.Cut(id, "-")
	return filepath.Join(s.layout.runRoot, volumesDir, container, index)
}
