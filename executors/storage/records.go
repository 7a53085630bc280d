package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	library "go.podman.io/storage"
)

// rootfsOwner marks the container records that are Stele's among those of other
// programs that use the store. It is on disk: do not change it.
const rootfsOwner = "stele.rootfs.v1"

// volumeOwner marks the container records that stand for image volumes of Stele. It is
// on disk: do not change it.
const volumeOwner = "stele.volume.v1"

// rootfsRecord is the metadata of a container record, on disk as JSON.
type rootfsRecord struct {
	Owner   string            `json:"owner"`
	ImageID string            `json:"image"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// rootfsRecord reads the record of a container. It fails with ErrRootfsNotFound, or
// with ErrRootfsConflict when the record is another program's.
func (d *disk) rootfsRecord(id string) (rootfsRecord, error) {
	container, err := d.lib.Container(id)
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

// volumeRecord is the metadata of an image volume's record, on disk as JSON.
type volumeRecord struct {
	Owner       string `json:"owner"`
	VolumeID    string `json:"volume"`
	ContainerID string `json:"container"`
	ImageID     string `json:"image"`
	Ref         string `json:"ref"` // as it was asked for
	SubPath     string `json:"subPath,omitempty"`
}

func (d *disk) volumeRecords() ([]volumeRecord, error) {
	containers, err := d.lib.Containers()
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
func (d *disk) volumeRecord(id string) (volumeRecord, error) {
	container, err := d.lib.Container(id)
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
