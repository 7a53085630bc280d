package storage

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/storage/pkg/idmap"
	"go.podman.io/storage/pkg/idtools"
)

// IDMaps are the mappings of a user namespace. Without any, ids are the node's.
type IDMaps struct{ UIDs, GIDs []specs.LinuxIDMapping }

// libraryMaps are mappings in the library's form.
func libraryMaps(ranges []specs.LinuxIDMapping) (maps []idtools.IDMap) {
	for _, r := range ranges {
		maps = append(maps, idtools.IDMap{ContainerID: int(r.ContainerID), HostID: int(r.HostID), Size: int(r.Size)})
	}
	return maps
}

func (m IDMaps) empty() bool { return len(m.UIDs) == 0 && len(m.GIDs) == 0 }

// MapsIDs reports whether the ids of an image's files can be mapped where they are mounted.
// Without that the library would copy every file of the image for each mapping.
func (s *Store) MapsIDs() bool {
	some := []specs.LinuxIDMapping{{HostID: 1 << 16, Size: 1 << 16}}
	return s.disk.canMap(IDMaps{UIDs: some, GIDs: some}) == nil
}

// namespace returns a user namespace with these mappings, which lasts as long as it is open.
func (m IDMaps) namespace() (*os.File, error) {
	pid, end, err := idmap.CreateUsernsProcess(libraryMaps(m.UIDs), libraryMaps(m.GIDs))
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer end()
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	return file, nil
}

func (d *disk) canMap(users IDMaps) error {
	if users.empty() {
		return nil
	}
	driver, err := d.lib.GraphDriver()
	if err != nil {
		return fmt.Errorf("reach the graph driver: %w", err)
	}
	if !driver.SupportsShifting(libraryMaps(users.UIDs), libraryMaps(users.GIDs)) {
		return fmt.Errorf("%w: it takes the driver overlay, Linux 5.19 and a file system with idmapped mounts", ErrNoIDMaps)
	}
	return nil
}
