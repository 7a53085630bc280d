package storage

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	library "go.podman.io/storage"
)

// rootfsOwner marks the records that are of root filesystems. In the library, where earlier
// versions had them, it tells them from those of other programs that use the store. It is on
// disk: do not change it.
const rootfsOwner = "stele.rootfs.v1"

// volumeOwner marks the records of image volumes likewise.
const volumeOwner = "stele.volume.v1"

// rootfsRecord is the record of a root filesystem, on disk as JSON.
type rootfsRecord struct {
	Owner   string            `json:"owner"`
	ImageID string            `json:"image"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// volumeRecord is the record of an image volume, on disk as JSON.
type volumeRecord struct {
	Owner       string `json:"owner"`
	VolumeID    string `json:"volume"`
	ContainerID string `json:"container"`
	ImageID     string `json:"image"`
	Ref         string `json:"ref"` // as it was asked for
	SubPath     string `json:"subPath,omitempty"`
}

// making ends the name of a record whose layer is being made.
const making = ".making"

func (d *disk) recordPath(name string) string { return filepath.Join(d.layout.rootfsRecords(), name) }

// announce writes the record of a layer that is to be made; made must be called once it is.
// Neither is synced: no container survives a power failure.
func (d *disk) announce(name string, record any) (made func() error, err error) {
	content, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode its record: %w", err)
	}
	path := d.recordPath(name)
	if err := os.WriteFile(path+making, content, 0o600); err != nil {
		return nil, fmt.Errorf("write its record: %w", err)
	}
	return func() error {
		if err := os.Rename(path+making, path); err != nil {
			return fmt.Errorf("write its record: %w", err)
		}
		return nil
	}, nil
}

// forget removes a record.
func (d *disk) forget(name string) error {
	for _, path := range []string{d.recordPath(name), d.recordPath(name) + making} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove its record: %w", err)
		}
	}
	return nil
}

// hasRecord reports whether there is a record, be it of a layer that was never finished.
func (d *disk) hasRecord(name string) (bool, error) {
	for _, path := range []string{d.recordPath(name), d.recordPath(name) + making} {
		_, err := os.Lstat(path)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// readRecord reads the record of a layer that is whole. One that cannot be parsed is from
// before a power failure, and as good as none.
func (d *disk) readRecord(name, id string, record any) (whole bool, err error) {
	content, err := os.ReadFile(d.recordPath(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read its record: %w", err)
	}
	if json.Unmarshal(content, record) != nil {
		return false, nil
	}
	if _, err := os.Lstat(d.layout.rootfsDir(id)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("look for its layer: %w", err)
	}
	return true, nil
}

// A writableRecord is what all records have.
type writableRecord struct {
	containerID string
	volumeID    string // empty for a root filesystem
	imageID     string // empty if it cannot be read
	// inLibrary is true if an earlier version of Stele made the layer.
	inLibrary bool
}

// layerOf returns the id of the layer that has a record of that name.
func layerOf(name string) string {
	if volumeID.MatchString(name) {
		return volumeLayer(name)
	}
	return name
}

// mountpoint is where the layer is mounted.
func (r writableRecord) mountpoint(l layout) string {
	layer := layerOf(cmp.Or(r.volumeID, r.containerID))
	if r.inLibrary {
		return l.libraryMount(layer)
	}
	return l.rootfsMount(layer)
}

// recordNames returns the names of the records of layers outside of the library: they are of
// containers, or of volumes.
func (d *disk) recordNames() ([]string, error) {
	entries, err := os.ReadDir(d.layout.rootfsRecords())
	if err != nil {
		return nil, fmt.Errorf("list the records of writable layers: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), making)
		if containerID.MatchString(name) || volumeID.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// records returns the records of all writable layers of Stele.
func (d *disk) records() ([]writableRecord, error) {
	names, err := d.recordNames()
	if err != nil {
		return nil, err
	}
	all := make([]writableRecord, len(names))
	for i, name := range names {
		all[i].containerID = name
		if parts := volumeID.FindStringSubmatch(name); parts != nil {
			all[i].containerID, all[i].volumeID = parts[1], name
		}
		if all[i].imageID, err = d.imageOf(name); err != nil {
			return nil, err
		}
	}
	containers, err := d.lib.Containers()
	if err != nil {
		return nil, fmt.Errorf("read the container records: %w", err)
	}
	for i := range containers {
		if record, ours := ownRecord(&containers[i]); ours {
			all = append(all, writableRecord{containerID: containers[i].ID, imageID: record.ImageID, inLibrary: true})
		}
		if record, ours := ownVolume(&containers[i]); ours {
			all = append(all, writableRecord{record.ContainerID, record.VolumeID, record.ImageID, true})
		}
	}
	return all, nil
}

// imageOf reads an image from a record, whole or not.
func (d *disk) imageOf(name string) (string, error) {
	for _, path := range []string{d.recordPath(name), d.recordPath(name) + making} {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the record of %s: %w", name, err)
		}
		var record struct {
			ImageID string `json:"image"`
		}
		if json.Unmarshal(content, &record) == nil && record.ImageID != "" {
			return record.ImageID, nil
		}
	}
	return "", nil
}

// usersOf returns the writable layers on an image: none on one without an id.
func (d *disk) usersOf(imageID string) ([]writableRecord, error) {
	records, err := d.records()
	return slices.DeleteFunc(records, func(record writableRecord) bool {
		return record.imageID != imageID || record.imageID == ""
	}), err
}

// rootfsRecord reads the record of a container's layer, or of one that an earlier version of
// Stele made. It fails with ErrRootfsNotFound, or with ErrRootfsConflict when the record is
// another program's.
func (d *disk) rootfsRecord(id string) (rootfsRecord, error) {
	var record rootfsRecord
	whole, err := d.readRecord(id, id, &record)
	if whole || err != nil {
		return record, err
	}
	return d.libraryRootfs(id)
}

// libraryRootfs reads the record that an earlier version of Stele made, with rootfsRecord's
// errors.
func (d *disk) libraryRootfs(id string) (rootfsRecord, error) {
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

// volumeRecord reads the record of a volume, or of one that an earlier version of Stele made.
// It fails with the library's ErrContainerUnknown, or with ErrVolumeConflict when the record
// is something else's. It is whole if its layer is there, and not the library's.
func (d *disk) volumeRecord(id string) (record volumeRecord, whole bool, err error) {
	whole, err = d.readRecord(id, volumeLayer(id), &record)
	if whole || err != nil {
		return record, whole, err
	}
	container, err := d.lib.Container(volumeLayer(id))
	if err != nil {
		if errors.Is(err, library.ErrContainerUnknown) && record.ImageID != "" {
			return record, false, nil
		}
		return volumeRecord{}, false, fmt.Errorf("read its record: %w", err)
	}
	record, ours := ownVolume(container)
	if !ours {
		return volumeRecord{}, false, fmt.Errorf("%w: the record of its layer's id in the store is another program's", ErrVolumeConflict)
	}
	return record, false, nil
}

func ownVolume(container *library.Container) (volumeRecord, bool) {
	if !strings.Contains(container.Metadata, volumeOwner) {
		return volumeRecord{}, false
	}
	var record volumeRecord
	err := json.Unmarshal([]byte(container.Metadata), &record)
	return record, err == nil && record.Owner == volumeOwner && volumeLayer(record.VolumeID) == container.ID
}

// volumeLayer is the id of a volume's layer. It looks like any other, as the library wants
// it, and cannot be a container's.
func volumeLayer(id string) string {
	return digest.FromString("image volume " + id).Encoded()
}
