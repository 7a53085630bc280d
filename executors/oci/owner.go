package oci

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// ownerOf returns who owns the pipes of a process in a user namespace, by the node's ids: its
// user, or /dev/stdout could not be opened. Without such a namespace the runtime sees to it; in
// one it may not, because a pipe that root made is of nobody there. nil leaves them root's.
func ownerOf(s *specs.Spec) *monitor.Owner {
	if s.Linux == nil || s.Process == nil || len(s.Linux.UIDMappings) == 0 {
		return nil
	}
	users := userns.Mapping{UIDs: s.Linux.UIDMappings, GIDs: s.Linux.GIDMappings}
	owner := &monitor.Owner{UID: same, GID: same}
	if uid, mapped := users.UID(s.Process.User.UID); mapped {
		owner.UID = int(uid)
	}
	if gid, mapped := users.GID(s.Process.User.GID); mapped {
		owner.GID = int(gid)
	}
	return owner
}

// same leaves an owner as it is: chown(2).
const same = -1

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
