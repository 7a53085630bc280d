package userns

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const (
	// maxRanges is the kernel's bound of /proc/PID/uid_map (user_namespaces(7)).
	maxRanges = 340
	// ids is how many there are: the last, 2^32-1, means "no id".
	ids = 1<<32 - 1
)

// Check refuses namespace options whose user namespace cannot be. field is their path in the
// message. A user namespace owns the pod's other namespaces, so none of them can be the node's:
// /proc and /sys could not be mounted, and the kubelet refuses such pods, too.
func Check(field string, options *cri.NamespaceOption) error {
	users := options.GetUsernsOptions()
	field += ".userns_options"
	switch {
	case users == nil:
		return nil
	case users.Mode == cri.NamespaceMode_NODE:
		if len(users.Uids) > 0 || len(users.Gids) > 0 {
			return refusal.Invalid(field+".mode", users.Mode, "is the node's user namespace, but there are mappings")
		}
		return nil
	case users.Mode != cri.NamespaceMode_POD:
		return refusal.Invalid(field+".mode", users.Mode, "is a mode that user namespaces don't have")
	}
	for _, ns := range []struct {
		name string
		mode cri.NamespaceMode
	}{{"network", options.Network}, {"pid", options.Pid}, {"ipc", options.Ipc}} {
		if ns.mode == cri.NamespaceMode_NODE {
			return refusal.Unsupported(field, nil, "can't be had together with the node's %s namespace", ns.name)
		}
	}
	return refusal.First(
		func() error { return CheckRanges(field+".uids", users.Uids) },
		func() error { return CheckRanges(field+".gids", users.Gids) },
		func() error { return checkRoot(field+".uids", users.Uids) },
		func() error { return checkRoot(field+".gids", users.Gids) },
	)
}

// CheckRanges refuses mappings that the kernel would refuse, and those that reach the node's
// root.
func CheckRanges(field string, ranges []*cri.IDMapping) error {
	if len(ranges) == 0 {
		return refusal.Invalid(field, nil, "has no mapping")
	}
	if len(ranges) > maxRanges {
		return refusal.Invalid(field, len(ranges), "is more than the kernel's %d mappings", maxRanges)
	}
	for i, r := range ranges {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case r.GetLength() == 0:
			return refusal.Invalid(at+".length", 0, "is empty")
		case uint64(r.GetContainerId())+uint64(r.GetLength()) > ids:
			return refusal.Invalid(at+".container_id", r.GetContainerId(), "and the length reach beyond the last id")
		case uint64(r.GetHostId())+uint64(r.GetLength()) > ids:
			return refusal.Invalid(at+".host_id", r.GetHostId(), "and the length reach beyond the last id")
		case r.GetHostId() == 0:
			return refusal.Invalid(at+".host_id", 0, "is the node's root")
		}
	}
	return refusal.First(
		func() error { return checkApart(field, "container_id", ranges, (*cri.IDMapping).GetContainerId) },
		func() error { return checkApart(field, "host_id", ranges, (*cri.IDMapping).GetHostId) },
	)
}

// checkApart refuses ranges that share an id.
func checkApart(field, name string, ranges []*cri.IDMapping, start func(*cri.IDMapping) uint32) error {
	ordered := slices.Clone(ranges)
	slices.SortFunc(ordered, func(a, b *cri.IDMapping) int { return cmp.Compare(start(a), start(b)) })
	for i := range len(ordered) - 1 {
		if uint64(start(ordered[i]))+uint64(ordered[i].Length) > uint64(start(ordered[i+1])) {
			return refusal.Invalid(field+"."+name, start(ordered[i+1]), "is in two mappings")
		}
	}
	return nil
}

// checkRoot wants root to be mapped: the runtime becomes it, before it becomes the user.
func checkRoot(field string, ranges []*cri.IDMapping) error {
	if _, mapped := find(Ranges(ranges), 0); !mapped {
		return refusal.Invalid(field, nil, "does not map the container's id 0")
	}
	return nil
}

// CheckContainer refuses options of a container that are not its pod's: there is one user
// namespace. A container without any follows its pod.
func CheckContainer(field string, container *cri.NamespaceOption, pod *cri.PodSandboxConfig) error {
	if container.GetUsernsOptions() == nil {
		return nil
	}
	asked, of := container.UsernsOptions, pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	if own(asked) != own(of) || own(asked) && !proto.Equal(asked, of) {
		return refusal.Invalid(field+".userns_options", nil, "is not the pod's")
	}
	return nil
}
