package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Layout is how cgroup hierarchies are mounted on a node.
type Layout string

const (
	// V1 has one or more v1 hierarchies and nothing else.
	V1 Layout = "v1"
	// Hybrid has v1 hierarchies with the controllers, and a v2 hierarchy for
	// naming only.
	Hybrid Layout = "hybrid"
	// V2 has a single v2 hierarchy with every controller.
	V2 Layout = "v2"
)

// Hierarchy is one mounted tree of cgroups.
type Hierarchy struct {
	// Mountpoint is where the tree's root is, as an absolute path.
	Mountpoint string
	// Controllers that act in this tree, sorted; none for a v1 tree that only
	// names (systemd's) and for the v2 tree of a hybrid node.
	Controllers []string
	// Unified is true for a v2 tree.
	Unified bool
}

// Node says what Detect found.
type Node struct {
	Layout      Layout
	Hierarchies []Hierarchy
}

// Detect reads the mounts of this process and says which layout they form. It
// fails if no cgroup hierarchy is mounted.
func Detect() (*Node, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("detect cgroups: read mounts: %w", err)
	}
	return detect(mounts, os.ReadFile)
}

func detect(mounts []*mountinfo.Info, readFile func(string) ([]byte, error)) (*Node, error) {
	node := &Node{}
	var v1, v2 bool
	seen := map[string]bool{}
	for _, m := range mounts {
		// The same tree can be mounted twice, for instance bind-mounted into a
		// container's root; the first mount of each is the one in use.
		device := fmt.Sprintf("%d:%d", m.Major, m.Minor)
		if seen[device] {
			continue
		}
		seen[device] = true
		h := Hierarchy{Mountpoint: m.Mountpoint}
		if m.FSType == "cgroup2" {
			v2 = true
			h.Unified = true
			b, err := readFile(filepath.Join(m.Mountpoint, "cgroup.controllers"))
			if err != nil {
				return nil, fmt.Errorf("detect cgroups: %w", err)
			}
			h.Controllers = strings.Fields(string(b))
		} else {
			v1 = true
			for opt := range strings.SplitSeq(m.VFSOptions, ",") {
				if isController(opt) {
					h.Controllers = append(h.Controllers, opt)
				}
			}
		}
		slices.Sort(h.Controllers)
		node.Hierarchies = append(node.Hierarchies, h)
	}
	switch {
	case v1 && v2:
		node.Layout = Hybrid
		// The v2 hierarchy may have controllers that no v1 hierarchy has, but no
		// runtime uses them.
		for i := range node.Hierarchies {
			if node.Hierarchies[i].Unified {
				node.Hierarchies[i].Controllers = nil
			}
		}
	case v1:
		node.Layout = V1
	case v2:
		node.Layout = V2
	default:
		return nil, fmt.Errorf("detect cgroups: no cgroup hierarchy is mounted")
	}
	return node, nil
}

// isController tells a v1 mount option that names a controller from the others
// (rw, name=systemd, xattr, release_agent=…).
func isController(opt string) bool {
	switch opt {
	case "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
		"hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc":
		return true
	}
	return false
}

// Has reports whether any hierarchy has the controller. On v2, devices and
// freezer are always there: they are not controllers, but programs and a file.
func (n *Node) Has(controller string) bool {
	if n.Layout == V2 && (controller == "devices" || controller == "freezer") {
		return true
	}
	_, ok := n.Find(controller)
	return ok
}

// Find returns the hierarchy that has the controller.
func (n *Node) Find(controller string) (Hierarchy, bool) {
	for _, h := range n.Hierarchies {
		if slices.Contains(h.Controllers, controller) {
			return h, true
		}
	}
	return Hierarchy{}, false
}
