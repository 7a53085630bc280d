package userns

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Mapping says which ids of the node the ids in a user namespace are. A nil one stands for the
// node's own namespace, where each id is itself.
type Mapping struct{ UIDs, GIDs []specs.LinuxIDMapping }

// Of returns the mapping of a pod, as ValidateSandbox has accepted it; nil if it has the
// node's users.
func Of(pod *cri.PodSandboxConfig) *Mapping {
	options := pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	if !own(options) {
		return nil
	}
	return &Mapping{UIDs: Ranges(options.Uids), GIDs: Ranges(options.Gids)}
}

// own reports whether the options ask for a user namespace. Without options a pod has the
// node's: that is what older kubelets mean.
func own(options *cri.UserNamespace) bool {
	return options != nil && options.Mode == cri.NamespaceMode_POD
}

// Ranges returns the runtime spec's form of mappings.
func Ranges(mappings []*cri.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range mappings {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return out
}

// UID returns the node's id of a user; false if the user is not mapped.
func (m *Mapping) UID(inside uint32) (uint32, bool) {
	if m == nil {
		return inside, true
	}
	return find(m.UIDs, inside)
}

// GID returns the node's id of a group; false if the group is not mapped.
func (m *Mapping) GID(inside uint32) (uint32, bool) {
	if m == nil {
		return inside, true
	}
	return find(m.GIDs, inside)
}

// Root returns the node's ids of root. Every mapping that was accepted has it.
func (m *Mapping) Root() (uid, gid uint32) {
	uid, _ = m.UID(0)
	gid, _ = m.GID(0)
	return uid, gid
}

// Same reports whether mappings, if there are any, are these.
func (m *Mapping) Same(uids, gids []*cri.IDMapping) bool {
	if len(uids) == 0 && len(gids) == 0 {
		return true
	}
	return m != nil && slices.Equal(m.UIDs, Ranges(uids)) && slices.Equal(m.GIDs, Ranges(gids))
}

func find(ranges []specs.LinuxIDMapping, inside uint32) (uint32, bool) {
	for _, r := range ranges {
		if inside >= r.ContainerID && inside-r.ContainerID < r.Size {
			return r.HostID + (inside - r.ContainerID), true
		}
	}
	return 0, false
}
