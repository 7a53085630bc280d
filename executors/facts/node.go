package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// DetectHost finds out about this node and this process.
func DetectHost() (*spec.HostFacts, error) {
	node, err := cgroups.Detect()
	if err != nil {
		return nil, err
	}
	h := &spec.HostFacts{
		Node:              confine.Node{Arch: runtime.GOARCH, Seccomp: hasSeccomp(), AppArmor: apparmor.Enabled(), SELinux: selinux.GetEnabled()},
		CgroupV2:          node.Layout == cgroups.V2,
		Hugetlb:           node.Has("hugetlb"),
		Pids:              node.Has("pids"),
		SwapLimit:         canLimitSwap(node),
		RecursiveReadOnly: hasMountSetattr(),
	}
	if h.SELinux {
		h.Contexts = policyContexts()
	}
	if h.Capabilities, err = ownCapabilities(); err != nil {
		return nil, err
	}
	if h.Has("CAP_SYS_RESOURCE") {
		h.MinOOMScoreAdj = -1000
		return h, nil
	}
	if h.MinOOMScoreAdj, err = ownOOMScoreAdj(); err != nil {
		return nil, err
	}
	h.MaxRlimits, err = ownRlimits()
	return h, err
}

// ownOOMScoreAdj is the least value that this process may set without
// CAP_SYS_RESOURCE: its own.
func ownOOMScoreAdj() (int, error) {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("detect host: %w", err)
	}
	adj, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("detect host: oom_score_adj: %w", err)
	}
	return adj, nil
}

// ownRlimits are the hard limits that this process can't exceed without
// CAP_SYS_RESOURCE.
func ownRlimits() (map[string]uint64, error) {
	limits := map[string]uint64{}
	for name, resource := range rlimitTypes() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil {
			return nil, fmt.Errorf("detect host: getrlimit %s: %w", name, err)
		}
		limits[name] = limit.Max
	}
	return limits, nil
}

// rlimitTypes are the limits of getrlimit(2), as the OCI spec names them.
func rlimitTypes() map[string]int {
	return map[string]int{
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
		"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
	}
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
			names = append(names, confine.CapabilityName(c.String()))
		}
	}
	slices.Sort(names)
	return names, nil
}

// hasSeccomp asks for filters: EFAULT means that the kernel was ready to read
// one.
func hasSeccomp() bool {
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0) == unix.EFAULT
}

// policyContexts are what the policy has for containers. The library makes each with a level that
// nobody else has got from it, which is of no use here: levels are the pods'.
func policyContexts() confine.Contexts {
	process, file := selinux.ContainerLabels() //nolint:staticcheck // There is nothing else that reads them.
	selinux.ReleaseLabel(process)
	// Released when process was: of two labels made in a row each has its own level.
	start, _ := selinux.InitContainerLabels() //nolint:staticcheck // As above.
	selinux.ReleaseLabel(start)
	c := confine.Contexts{
		Process: withoutCategories(process), Init: withoutCategories(start),
		File: withoutCategories(file), Shared: withoutCategories(selinux.ROFileLabel()), //nolint:staticcheck // As above.
	}
	// The file that names them may be there while the policy's module with their types is not
	// loaded, as with Debian: then no mount could have them.
	for _, context := range []string{c.Process, c.File} {
		if context == "" || selinux.SecurityCheckContext(context) != nil {
			return confine.Contexts{}
		}
	}
	if c.Init != "" && selinux.SecurityCheckContext(c.Init) != nil {
		c.Init = ""
	}
	if c.Shared != "" && selinux.SecurityCheckContext(c.Shared) != nil {
		c.Shared = ""
	}
	return c
}

// withoutCategories cuts those of a level, so that s0:c1,c2 is s0.
func withoutCategories(context string) string {
	parts := strings.Split(context, ":")
	return strings.Join(parts[:min(len(parts), 4)], ":")
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
