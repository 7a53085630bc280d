package spec

import (
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// peers says where the mounts that are made on a path go to and come from.
type peers struct {
	mountpoint string
	// shared: mounts go out and come in. slave: they come in.
	shared, slave bool
}

// peersOf looks at the mount that a path without links is on.
func peersOf(path string) (peers, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return peers{}, fmt.Errorf("read the mounts above %s: %w", path, err)
	}
	var on *mountinfo.Info
	for _, m := range mounts {
		// A later mount hides an earlier one on the same place.
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	if on == nil {
		return peers{}, fmt.Errorf("read the mounts above %s: none found", path)
	}
	p := peers{mountpoint: on.Mountpoint}
	for field := range strings.FieldsSeq(on.Optional) {
		p.shared = p.shared || strings.HasPrefix(field, "shared:")
		p.slave = p.slave || strings.HasPrefix(field, "master:")
	}
	return p, nil
}
