package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// HostFacts are what the node and this process can give a container. They are
// found once, at start.
type HostFacts struct {
	// Capabilities that this process has and may pass on, sorted.
	Capabilities []string
	// Seccomp, AppArmor, SELinux: the kernel has it, and it is on.
	Seccomp, AppArmor, SELinux bool
	// CgroupV2: every controller is on v2.
	CgroupV2 bool
	// Hugetlb: there is a controller for huge pages.
	Hugetlb bool
	// SwapLimit: swap can be limited.
	SwapLimit bool
	// RecursiveReadOnly: a tree of mounts can be made read-only at once.
	RecursiveReadOnly bool
	// MinOOMScoreAdj is the least oom_score_adj that this process may set.
	MinOOMScoreAdj int
	// MaxRlimits are the highest hard limits that this process may set, by the
	// OCI spec's names; a limit that isn't there has no bound.
	MaxRlimits map[string]uint64
}

// DetectHost finds out about this node and this process.
func DetectHost() (*HostFacts, error) {
	node, err := cgroups.Detect()
	if err != nil {
		return nil, err
	}
	h := &HostFacts{
		Seccomp:           hasSeccomp(),
		AppArmor:          hasAppArmor(),
		SELinux:           selinux.GetEnabled(),
		CgroupV2:          node.Layout == cgroups.V2,
		Hugetlb:           node.Has("hugetlb"),
		SwapLimit:         canLimitSwap(node),
		RecursiveReadOnly: hasMountSetattr(),
	}
	if h.Capabilities, err = ownCapabilities(); err != nil {
		return nil, err
	}
	if err := h.detectLimits(); err != nil {
		return nil, err
	}
	return h, nil
}

// Has reports whether the process has a capability, by its full name.
func (h *HostFacts) Has(name string) bool {
	for _, c := range h.Capabilities {
		if c == name {
			return true
		}
	}
	return false
}

// detectLimits finds what can't be exceeded without CAP_SYS_RESOURCE.
func (h *HostFacts) detectLimits() error {
	if h.Has("CAP_SYS_RESOURCE") {
		h.MinOOMScoreAdj = -1000
		return nil
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return fmt.Errorf("detect host: %w", err)
	}
	if h.MinOOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
		return fmt.Errorf("detect host: oom_score_adj: %w", err)
	}
	h.MaxRlimits = map[string]uint64{}
	for name, resource := range rlimitTypes() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil {
			return fmt.Errorf("detect host: getrlimit %s: %w", name, err)
		}
		h.MaxRlimits[name] = limit.Max
	}
	return nil
}

// ownCapabilities are those that a child can be given: permitted, and not
// beyond the bounding set.
func ownCapabilities() ([]string, error) {
	caps, err := capability.NewPid2(0)
	if err != nil {
		return nil, fmt.Errorf("detect host: capabilities: %w", err)
	}
	if err := caps.Load(); err != nil {
		return nil, fmt.Errorf("detect host: capabilities: %w", err)
	}
	supported, err := capability.ListSupported()
	if err != nil {
		return nil, fmt.Errorf("detect host: capabilities: %w", err)
	}
	var names []string
	for _, c := range supported {
		if caps.Get(capability.BOUNDING, c) && caps.Get(capability.PERMITTED, c) {
			names = append(names, capName(c.String()))
		}
	}
	return sortedSet(names), nil
}

// hasSeccomp asks for filters: EFAULT means that the kernel was ready to read
// one.
func hasSeccomp() bool {
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0) == unix.EFAULT
}

func hasAppArmor() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(b, []byte("Y"))
}

// hasMountSetattr asks for the system call (Linux 5.12) with nothing to do.
func hasMountSetattr() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM)
}

// canLimitSwap looks for the file of a cgroup. On v2 the root has none, so any
// child will do; without a child there is nothing to tell from, and the kernel's
// default is to have it.
func canLimitSwap(node *cgroups.Node) bool {
	h, ok := node.Find("memory")
	if !ok {
		return false
	}
	if !h.Unified {
		_, err := os.Stat(filepath.Join(h.Mountpoint, "memory.memsw.limit_in_bytes"))
		return err == nil
	}
	entries, err := os.ReadDir(h.Mountpoint)
	if err != nil {
		return false
	}
	for _, e := range entries {
		dir := filepath.Join(h.Mountpoint, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "memory.max")); err != nil {
			continue
		}
		_, err := os.Stat(filepath.Join(dir, "memory.swap.max"))
		return !errors.Is(err, fs.ErrNotExist)
	}
	return true
}
