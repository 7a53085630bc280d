package usermode

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Rules are the administrator's.
type Rules struct {
	// MinUID and MinGID are the lowest ids of the node that a pod may name; negative: any but
	// root's, and then only a pod that runs as root may name ids.
	MinUID, MinGID int64
}

// Pool is where ids are chosen from.
type Pool struct {
	// UIDs and GIDs may be given to pods. UsedUIDs and UsedGIDs are given already.
	UIDs, GIDs, UsedUIDs, UsedGIDs []Range
}

// Range are ids of the node.
type Range struct{ Start, Length uint32 }

// Fill returns the user namespace of a pod. As with CRI-O, the numbers of the pod's user and
// groups are the node's: what belongs to them is the pod's, too, because they are mapped.
// Root is the exception. The node's is never mapped; root is the pod's own.
func (m Mode) Fill(pod *cri.LinuxSandboxSecurityContext, rules Rules, pool Pool) (*cri.UserNamespace, error) {
	if err := m.mayName(pod, rules); err != nil {
		return nil, err
	}
	uids := mapper{mode: m, kind: "uid", list: m.UIDs, min: rules.MinUID}
	gids := mapper{mode: m, kind: "gid", list: m.GIDs, min: rules.MinGID}
	if !m.Auto {
		switch {
		case len(m.UIDs) == 0 && len(m.GIDs) == 0:
			return nil, m.refuse("private", "names no mapping")
		case len(m.UIDs) == 0:
			uids.list = m.GIDs
		case len(m.GIDs) == 0:
			gids.list = m.UIDs
		}
	}
	if pod.GetRunAsUser() != nil {
		uids.add(pod.RunAsUser.Value, m.MapToRoot)
	}
	if pod.GetRunAsGroup() != nil {
		gids.add(pod.RunAsGroup.Value, m.MapToRoot)
	}
	for _, g := range pod.GetSupplementalGroups() {
		gids.add(g, false)
	}
	users := &cri.UserNamespace{Mode: cri.NamespaceMode_POD}
	var err error
	if users.Uids, err = uids.choose(pool.UIDs, pool.UsedUIDs); err != nil {
		return nil, err
	}
	users.Gids, err = gids.choose(pool.GIDs, pool.UsedGIDs)
	return users, err
}

// mayName decides by CRI-O's rule whether a pod may name the node's ids: one that is not root
// on the node could otherwise become somebody else there.
func (m Mode) mayName(pod *cri.LinuxSandboxSecurityContext, rules Rules) error {
	if len(m.UIDs) == 0 && len(m.GIDs) == 0 {
		return nil
	}
	user := pod.GetRunAsUser()
	switch {
	case user == nil:
		return m.refuse("uidmapping, gidmapping", "need a pod that says as whom it runs")
	case user.Value == 0:
		return nil
	case rules.MinUID < 0:
		return m.refuse("uidmapping, gidmapping", "need a pod that runs as root, or minimum_mappable_uid")
	case user.Value < rules.MinUID:
		return m.refuse("uidmapping, gidmapping", "need a pod that does not run as %d, below minimum_mappable_uid %d", user.Value, rules.MinUID)
	}
	return nil
}

// mapper collects the mappings of one kind of ids.
type mapper struct {
	mode Mode
	kind string
	list []*cri.IDMapping
	min  int64
}

// add maps an id of the node, unless it is mapped already.
func (m *mapper) add(id int64, toRoot bool) {
	if id <= 0 || id >= ids {
		return // root's is never mapped; what is no id is refused with the pod's other fields
	}
	var next uint64
	for _, r := range m.list {
		if host := spanOf(r.HostId, r.Length); host.start <= uint64(id) && uint64(id) < host.end {
			return
		}
		next = max(next, spanOf(r.ContainerId, r.Length).end)
	}
	inside := uint32(min(next, ids))
	switch {
	case m.mode.KeepID:
		inside = uint32(id)
	case toRoot:
		inside = 0
	}
	m.list = append(m.list, &cri.IDMapping{ContainerId: inside, HostId: uint32(id), Length: 1})
}

// choose checks what was named, and maps the other ids of an automatic namespace.
func (m *mapper) choose(pool, used []Range) ([]*cri.IDMapping, error) {
	for _, r := range m.list {
		switch {
		case r.Length == 0 || spanOf(r.ContainerId, r.Length).end > ids || spanOf(r.HostId, r.Length).end > ids:
			return nil, m.refuse(r, "is empty, or reaches beyond the last id")
		case r.HostId == 0:
			return nil, m.refuse(r, "maps the node's root")
		case int64(r.HostId) < m.min:
			return nil, m.refuse(r, "begins below minimum_mappable_%s %d", m.kind, m.min)
		}
	}
	if !m.mode.Auto {
		return m.list, nil
	}
	inside := []span{{0, uint64(m.mode.Size)}}
	free := spans(pool)
	for _, r := range m.list {
		inside = without(inside, spanOf(r.ContainerId, r.Length))
		free = without(free, spanOf(r.HostId, r.Length))
	}
	for _, s := range spans(used) {
		free = without(free, s)
	}
	chosen, ok := take(without(free, span{0, 1}), total(inside))
	if !ok {
		return nil, m.mode.refuse(m.mode.Size, "is more %ss than the node has left for pods", m.kind)
	}
	return append(pair(inside, chosen), m.list...), nil
}

func (m *mapper) refuse(r *cri.IDMapping, reason string, args ...any) error {
	return m.mode.refuse(text(r), m.kind+"mapping: "+reason, args...)
}

// Inside returns the number in the namespace of an id of the node; one that is not mapped
// stays as it is.
func Inside(mappings []*cri.IDMapping, id int64) int64 {
	for _, r := range mappings {
		if host := spanOf(r.GetHostId(), r.GetLength()); id >= 0 && host.start <= uint64(id) && uint64(id) < host.end {
			return int64(r.GetContainerId()) + id - int64(r.GetHostId())
		}
	}
	return id
}

// RangesOf returns the node's ids that mappings use.
func RangesOf(mappings []*cri.IDMapping) []Range {
	var out []Range
	for _, r := range mappings {
		out = append(out, Range{Start: r.GetHostId(), Length: r.GetLength()})
	}
	return out
}
