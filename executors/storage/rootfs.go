package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	library "go.podman.io/storage"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"
)

// rootfsOwner marks the container records that are Stele's among those of other
// programs that use the store. It is on disk: do not change it.
const rootfsOwner = "stele.rootfs.v1"

// containerID is what a container's id must look like; it becomes a directory's name.
var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// RootfsRequest asks for a container's root filesystem.
type RootfsRequest struct {
	// ContainerID names the root filesystem: 64 hexadecimal digits.
	ContainerID string
	// ImageID is an Image's ID.
	ImageID string
	// Labels are kept with the record, for whoever looks at the store.
	Labels map[string]string
	// MountLabel is the SELinux label of all files; it must be empty where SELinux
	// is off.
	MountLabel string
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

// rootfsRecord is the metadata of a container record, on disk as JSON.
type rootfsRecord struct {
	Owner   string            `json:"owner"`
	ImageID string            `json:"image"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// PrepareRootfs makes a writable layer on top of an image and mounts it. It can be
// repeated after success and after a crash at any point: what exists of record,
// layer and mount is kept if it is whole and replaced if it is not. It fails with
// ErrImageNotFound, or with ErrRootfsConflict if the id is taken by another root
// filesystem.
//
// The record and the layer are volatile: written without syncing, since after a
// power failure no container is there that could need them. For the same reason
// fsync inside a container doesn't wait for the disk, as with CRI-O.
func (s *Store) PrepareRootfs(ctx context.Context, request RootfsRequest) (Rootfs, error) {
	if !containerID.MatchString(request.ContainerID) {
		return Rootfs{}, fmt.Errorf("prepare root filesystem: container id %q is not 64 hexadecimal digits", request.ContainerID)
	}
	image, err := s.imageByID(ctx, request.ImageID)
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	if image.Config == nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: image %s has no readable configuration",
			request.ContainerID, image.ID)
	}
	if err := s.ensureRecord(request); err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	mountpoint, err := s.ensureMounted(request.ContainerID, request.MountLabel)
	if err != nil {
		return Rootfs{}, fmt.Errorf("prepare root filesystem of %s: %w", request.ContainerID, err)
	}
	return Rootfs{Mountpoint: mountpoint, ImageID: image.ID, Config: image.Config}, nil
}

// ensureRecord sees to it that the container's record and layer are there and
// belong together.
func (s *Store) ensureRecord(request RootfsRequest) error {
	record, err := s.rootfsRecord(request.ContainerID)
	switch {
	case errors.Is(err, ErrRootfsNotFound):
		return s.createRootfs(request)
	case err != nil:
		return err
	case record.ImageID != request.ImageID:
		return fmt.Errorf("%w: it stands on image %s, not on %s", ErrRootfsConflict, record.ImageID, request.ImageID)
	}
	_, err = s.lib.Layer(request.ContainerID)
	if err == nil {
		return nil
	}
	if !errors.Is(err, library.ErrLayerUnknown) {
		return fmt.Errorf("read the record of its layer: %w", err)
	}
	// A removal was cut off after the layer and before the record.
	if err := s.lib.DeleteContainer(request.ContainerID); err != nil && !isGone(err) {
		return fmt.Errorf("remove a record without a layer: %w", err)
	}
	return s.createRootfs(request)
}

func (s *Store) createRootfs(request RootfsRequest) error {
	metadata, err := json.Marshal(rootfsRecord{Owner: rootfsOwner, ImageID: request.ImageID, Labels: request.Labels})
	if err != nil {
		return fmt.Errorf("encode its record: %w", err)
	}
	return s.createLayer(request.ContainerID, request.ImageID, request.MountLabel, string(metadata))
}

// createLayer makes a record, and a writable layer on top of an image, both of the
// given id. What a creation that was cut off left of the layer is replaced, and what
// this one leaves when it fails is removed.
func (s *Store) createLayer(id, imageID, label, metadata string) error {
	options := &library.ContainerOptions{
		IDMappingOptions: types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true},
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
		_, err := s.lib.CreateContainer(id, nil, imageID, id, metadata, options)
		return err
	}
	err := create()
	if errors.Is(err, library.ErrDuplicateID) {
		if record, recordErr := s.lib.Container(id); recordErr == nil {
			if record.Metadata != metadata {
				return fmt.Errorf("%w: another record of that id was made meanwhile", ErrRootfsConflict)
			}
			return nil // made meanwhile by another call for the same container
		}
		// A creation was cut off after the layer and before the record.
		if err := s.removeLayer(id); err != nil {
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
	if _, recordErr := s.lib.Container(id); errors.Is(recordErr, library.ErrContainerUnknown) {
		err = errors.Join(err, s.freeing(func() error { return s.removeLayer(id) }))
	}
	return err
}

// rootfsRecord reads the record of a container. It fails with ErrRootfsNotFound, or
// with ErrRootfsConflict when the record is another program's.
func (s *Store) rootfsRecord(id string) (rootfsRecord, error) {
	container, err := s.lib.Container(id)
	if errors.Is(err, library.ErrContainerUnknown) || err == nil && container.ID != id {
		return rootfsRecord{}, ErrRootfsNotFound
	}
	if err != nil {
		return rootfsRecord{}, fmt.Errorf("read its record: %w", err)
	}
	record, ours := ownRecord(container)
	if !ours {
		return rootfsRecord{}, fmt.Errorf("%w: the record of that id in the store is another program's", ErrRootfsConflict)
	}
	return record, nil
}

func ownRecord(container *library.Container) (rootfsRecord, bool) {
	var record rootfsRecord
	err := json.Unmarshal([]byte(container.Metadata), &record)
	return record, err == nil && record.Owner == rootfsOwner && container.LayerID == container.ID
}

// ensureMounted mounts a container's layer unless it is, and says where. The library
// counts mounts in its run root, and the kernel knows what is mounted; after a crash
// they may differ. The library mounts when its count says nothing and the kernel
// agrees, and adopts a mount that it had not counted; only a count that is right must
// be kept from growing with every repetition.
func (s *Store) ensureMounted(id, label string) (string, error) {
	layer, err := s.lib.Layer(id)
	if err != nil {
		return "", fmt.Errorf("read the record of its layer: %w", err)
	}
	mountpoint := layer.MountPoint
	mounted := false
	if layer.MountCount > 0 {
		if mounted, err = s.isMounted(mountpoint); err != nil {
			return "", err
		}
	}
	if !mounted {
		if mountpoint, err = s.lib.Mount(id, label); err != nil {
			return "", fmt.Errorf("mount its layer: %w", err)
		}
		if mounted, err = s.isMounted(mountpoint); err != nil {
			return "", err
		}
		if !mounted {
			return "", fmt.Errorf("mount its layer: the library reports success, but nothing is mounted on %s", mountpoint)
		}
	}
	if !s.layout.mounts() {
		return mountpoint, nil
	}
	if err := unix.Mount("", mountpoint, "", unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make the mount on %s private: %w", mountpoint, err)
	}
	return mountpoint, nil
}

// isMounted says whether a root filesystem is usable at the path: mounted there or,
// with a driver that doesn't mount, there.
func (s *Store) isMounted(path string) (bool, error) {
	if s.layout.mounts() {
		return isMountpoint(path)
	}
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Rootfses gives the ids of the containers whose root filesystems the store has
// and Stele made, whole or not.
func (s *Store) Rootfses(ctx context.Context) ([]string, error) {
	containers, err := s.lib.Containers()
	if err != nil {
		return nil, fmt.Errorf("list root filesystems: %w", err)
	}
	var ids []string
	for i := range containers {
		if _, ours := ownRecord(&containers[i]); ours {
			ids = append(ids, containers[i].ID)
		}
	}
	return ids, ctx.Err()
}
