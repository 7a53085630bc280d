package cni

import (
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// isPods reports whether others reach the pod by an address of the result: not if it
// belongs to an interface elsewhere, or is no address of one host. An address without a
// known interface is the pod's: results of CNI before 0.3.0 name none.
func (r record) isPods(addr netip.Addr, index *int, interfaces []*current.Interface) bool {
	if addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
		return false
	}
	if index == nil || *index < 0 || *index >= len(interfaces) || interfaces[*index] == nil {
		return true
	}
	return sameNamespace(interfaces[*index].Sandbox, r.Pod.NetNS)
}

// sameNamespace reports whether an interface with that sandbox, in the words of CNI, is in
// the network namespace: none is the node's. A sandbox that is not a path to any namespace
// cannot be another one's; it may be a virtual machine's within the pod.
func sameNamespace(sandbox, netns string) bool {
	switch sandbox {
	case "":
		return false
	case netns:
		return true
	}
	if path, err := namespaceIfThere(sandbox); err != nil || path == "" {
		return true
	}
	var other, own unix.Stat_t
	if unix.Stat(sandbox, &other) != nil || unix.Stat(netns, &own) != nil {
		return true
	}
	return other.Dev == own.Dev && other.Ino == own.Ino
}
