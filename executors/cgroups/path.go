package cgroups

import (
	"fmt"
	"path"
	"strings"
	"sync/atomic"
)

// Driver is who makes the cgroups: the runtime itself, or systemd at its
// request. It must be the one that the kubelet uses.
type Driver string

const (
	// Cgroupfs makes directories in the hierarchies.
	Cgroupfs Driver = "cgroupfs"
	// Systemd makes a transient scope for each container.
	Systemd Driver = "systemd"
)

// prefix begins the name of each cgroup that is made for Stele.
const prefix = "stele"

// systemdDefaultParent is the parent for pods that were given none. It always
// exists, so that such pods leave no slice behind.
const systemdDefaultParent = "system.slice"

// maxParent bounds a cgroup parent, in bytes: deeper ones than the kubelet makes
// can't be walked with a PATH_MAX path.
const maxParent = 2048

// Manager names and removes the cgroups of one daemon.
type Manager struct {
	node   *Node
	driver Driver
	root   string
	// warming: Warm is at work.
	warming atomic.Bool
}

// NewManager returns a Manager for the node as Detect saw it. root is the cgroup
// under which pods without a parent of their own live with the cgroupfs driver;
// empty means /stele. Daemons that share a machine may share it.
func NewManager(node *Node, driver Driver, root string) (*Manager, error) {
	if driver != Cgroupfs && driver != Systemd {
		return nil, fmt.Errorf("cgroup driver %q: must be %q or %q", driver, Cgroupfs, Systemd)
	}
	if root == "" {
		root = "/" + prefix
	}
	if !path.IsAbs(root) {
		return nil, fmt.Errorf("cgroup root: %q is not an absolute path", root)
	}
	if err := ValidateParent(Cgroupfs, root); err != nil {
		return nil, fmt.Errorf("cgroup root: %w", err)
	}
	return &Manager{node: node, driver: driver, root: fromTop(root)}, nil
}

// Driver returns the driver in use.
func (m *Manager) Driver() Driver { return m.driver }

// Node returns the layout in use.
func (m *Manager) Node() *Node { return m.node }

// ContainerPath returns the OCI spec's linux.cgroupsPath for a container, in
// the form that the driver wants: "<parent>/stele-<id>", or "<slice>:stele:<id>".
// parent is PodSandboxConfig.Linux.CgroupParent; if it is empty, the pod gets a
// cgroup of its own, which RemoveSandbox removes.
func (m *Manager) ContainerPath(parent, sandboxID, containerID string) (string, error) {
	if err := validateID(containerID); err != nil {
		return "", fmt.Errorf("container cgroup: %w", err)
	}
	if parent == "" {
		if err := validateID(sandboxID); err != nil {
			return "", fmt.Errorf("sandbox cgroup: %w", err)
		}
		if m.driver == Systemd {
			return systemdDefaultParent + ":" + prefix + ":" + containerID, nil
		}
		return path.Join(m.sandboxPath(sandboxID), leaf(containerID)), nil
	}
	if err := ValidateParent(m.driver, parent); err != nil {
		return "", err
	}
	parent = fromTop(parent)
	if m.driver == Systemd {
		return path.Base(parent) + ":" + prefix + ":" + containerID, nil
	}
	return path.Join(parent, leaf(containerID)), nil
}

// ContainerCgroup returns where a container's cgroup is below the mountpoints of the
// hierarchies. The arguments are those of ContainerPath.
func (m *Manager) ContainerCgroup(parent, sandboxID, containerID string) (string, error) {
	cgroupsPath, err := m.ContainerPath(parent, sandboxID, containerID)
	if err != nil {
		return "", err
	}
	return relative(cgroupsPath)
}

// SandboxCgroup returns where the cgroup of a pod is below the mountpoints of the
// hierarchies: its parent's, or its own. It is empty for a pod without a parent under the
// systemd driver, since its containers are then among those of other pods.
func (m *Manager) SandboxCgroup(parent, sandboxID string) (string, error) {
	switch {
	case parent != "":
		if err := ValidateParent(m.driver, parent); err != nil {
			return "", err
		}
		parent = fromTop(parent)
		if m.driver == Systemd {
			return expandSlice(path.Base(parent))
		}
		return parent, nil
	case m.driver == Systemd:
		return "", nil
	}
	if err := validateID(sandboxID); err != nil {
		return "", fmt.Errorf("sandbox cgroup: %w", err)
	}
	return m.sandboxPath(sandboxID), nil
}

// fromTop returns a parent as a clean path from the top of the hierarchy. A relative one
// is not relative to the runtime's own cgroup: that is the monitor's.
func fromTop(parent string) string { return path.Clean("/" + parent) }

// ValidateParent refuses a cgroup parent that could lead out of its hierarchy, or
// that has the other driver's form: then the kubelet uses a different cgroup
// driver. The systemd driver takes both forms of a slice: its name, and the
// cgroupfs path that ends in it, which is what the kubelet sends. A parent may be
// relative, or end in a slash. An empty one is valid.
func ValidateParent(driver Driver, parent string) error {
	if parent == "" {
		return nil
	}
	refuse := func(reason string) error {
		if len(parent) > 128 {
			parent = parent[:128] + "…"
		}
		return &ParentError{Driver: driver, Parent: parent, Reason: reason}
	}
	if len(parent) > maxParent {
		return refuse("is too long")
	}
	for _, c := range []byte(parent) {
		if c <= ' ' || c == 0x7f {
			return refuse("has a space or a control character")
		}
	}
	for element := range strings.SplitSeq(parent, "/") {
		if element == ".." || element == "." {
			return refuse(`has the element "` + element + `"`)
		}
		if len(element) > 255 {
			return refuse("has an element that is longer than 255 bytes")
		}
	}
	clean := fromTop(parent)
	isSlice := strings.HasSuffix(clean, ".slice")
	if driver == Systemd {
		if !isSlice {
			return refuse("is not a systemd slice; does the kubelet use the cgroupfs driver?")
		}
		if _, err := expandSlice(path.Base(clean)); err != nil {
			return refuse(err.Error())
		}
		return nil
	}
	if clean == "/" {
		return refuse("is the root of the hierarchy")
	}
	if isSlice {
		return refuse("is a systemd slice; does the kubelet use the systemd driver?")
	}
	return nil
}

// ParentError says why a cgroup parent is refused.
type ParentError struct {
	Driver Driver
	Parent string
	Reason string
}

func (e *ParentError) Error() string {
	return fmt.Sprintf("cgroup parent %q for the %s driver: it %s", e.Parent, e.Driver, e.Reason)
}

// expandSlice returns the path of a slice relative to its hierarchy: dashes in
// its name stand for the slices around it, so a-b.slice is in a.slice. See
// systemd.slice(5).
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" {
		return "", fmt.Errorf("is not the name of a slice")
	}
	if slice == "-.slice" {
		return "/", nil
	}
	var expanded, sofar string
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("has an empty part between dashes")
		}
		if strings.Contains(part, ":") {
			// The colon separates the parts of an OCI cgroupsPath.
			return "", fmt.Errorf("has a colon")
		}
		sofar += part
		expanded += "/" + sofar + ".slice"
		sofar += "-"
	}
	return expanded, nil
}

// relative returns where a linux.cgroupsPath made by ContainerPath is, relative
// to each hierarchy's mountpoint.
func relative(cgroupsPath string) (string, error) {
	if strings.HasPrefix(cgroupsPath, "/") {
		return cgroupsPath, nil
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 {
		return "", fmt.Errorf("cgroups path %q: neither absolute nor slice:prefix:name", cgroupsPath)
	}
	slice, err := expandSlice(parts[0])
	if err != nil {
		return "", fmt.Errorf("cgroups path %q: its slice %w", cgroupsPath, err)
	}
	return path.Join(slice, parts[1]+"-"+parts[2]+".scope"), nil
}

func (m *Manager) sandboxPath(sandboxID string) string { return path.Join(m.root, sandboxID) }

func leaf(id string) string { return prefix + "-" + id }

// validateID refuses what can't be one element of a path. Ids are random
// hexadecimal digits; tests and tools use other short names.
func validateID(id string) error {
	if id == "" || len(id) > 128 {
		return fmt.Errorf("id %.130q: must have 1 to 128 characters", id)
	}
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case (c == '-' || c == '.') && i > 0:
		default:
			return fmt.Errorf("id %q: has characters that a cgroup's name may not have", id)
		}
	}
	return nil
}
