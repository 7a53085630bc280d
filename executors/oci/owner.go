package oci

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/monitor"
)

// ownerOf returns who owns the pipes of a process in a user namespace, by the node's ids: its
// user, or /dev/stdout could not be opened. Without such a namespace the runtime sees to it; in
// one it may not, because a pipe that root made is of nobody there. nil leaves them root's.
func ownerOf(s *specs.Spec) *monitor.Owner {
	if s.Linux == nil || s.Process == nil || len(s.Linux.UIDMappings) == 0 {
		return nil
	}
	return &monitor.Owner{UID: mapped(s.Linux.UIDMappings, s.Process.User.UID), GID: mapped(s.Linux.GIDMappings, s.Process.User.GID)}
}

func mapped(ranges []specs.LinuxIDMapping, inside uint32) int {
	for _, r := range ranges {
		if inside >= r.ContainerID && inside-r.ContainerID < r.Size {
			return int(r.HostID + (inside - r.ContainerID))
		}
	}
	return -1 // leaves it as it is
}

// give changes the owner of pipes; one end is as good as the other.
func give(owner *monitor.Owner, pipes []*os.File) error {
	if owner == nil {
		return nil
	}
	for _, pipe := range pipes {
		if err := pipe.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return nil
}
