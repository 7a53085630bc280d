package spec

import (
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// planResources sets the limits. A zero means "not specified" throughout the CRI.
func planResources(r *request, plan *Plan) error {
	if err := checkMinMemory("linux.resources", r.res, r.Options.MinMemory); err != nil {
		return err
	}
	if len(r.res.Unified) > 0 && !r.Host.CgroupV2 {
		return refusal.Unsupported("linux.resources.unified", nil, "needs cgroup v2")
	}
	of, all := plan.Spec.Linux.Resources, limits(r.res, r.Host)
	of.CPU, of.Memory, of.HugepageLimits, of.Unified = all.CPU, all.Memory, all.HugepageLimits, all.Unified
	// Always said, or else the container would have the monitor's, which is as
	// low as can be.
	plan.Spec.Process.OOMScoreAdj = oomScoreAdj(r.res, r.Host)
	of.Pids = pids(r.Options.PidsLimit, r.Host.Pids)
	rlimits, err := r.rlimits()
	if err != nil {
		return err
	}
	for _, limit := range rlimits {
		plan.Spec.Process.Rlimits = append(plan.Spec.Process.Rlimits, r.Host.clamp(limit))
	}
	return nil
}

// checkMinMemory refuses a memory limit, by the field or by the file of cgroup v2, that is lower
// than what the runtime takes to start a container, or a command in one.
func checkMinMemory(prefix string, of *cri.LinuxContainerResources, least int64) error {
	const reason = "is too low for this runtime, which takes %d bytes"
	if limit := of.GetMemoryLimitInBytes(); limit > 0 && limit < least {
		return refusal.Invalid(prefix+".memory_limit_in_bytes", limit, reason, least)
	}
	if limit, is := fileSize(of.GetUnified(), fileMemoryMax); is && limit < least {
		return refusal.Invalid(prefix+".unified["+fileMemoryMax+"]", limit, reason, least)
	}
	return nil
}

// MemoryMax is the memory limit that resources have by its file of cgroup v2, in bytes. It reports
// false if they have none by it.
func MemoryMax(unified map[string]string) (limit int64, has bool) {
	return fileSize(unified, fileMemoryMax)
}

// fileSize reads a file of cgroup v2 that limits bytes, as the kernel does: with a suffix, or the
// prefix of another base. It reports false for one that is not set, or without limit.
func fileSize(unified map[string]string, file string) (int64, bool) {
	text := strings.TrimSpace(unified[file])
	if text == "" {
		return 0, false
	}
	shift := 0
	if i := strings.IndexByte("kmgtpe", text[len(text)-1]|0x20); i >= 0 && !strings.HasPrefix(strings.ToLower(text), "0x") {
		shift, text = 10*(i+1), text[:len(text)-1]
	}
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, false
	}
	return n << shift, true
}

// pids says so if there is no limit of processes: systemd has one of its own for a scope that
// does not.
func pids(limit int64, hasController bool) *specs.LinuxPids {
	if limit <= 0 {
		if !hasController {
			return nil
		}
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

// limits returns the runtime spec's form of all limits of cgroups.
func limits(r *cri.LinuxContainerResources, host *HostFacts) specs.LinuxResources {
	out := specs.LinuxResources{CPU: cpu(r), Memory: memory(r, host.SwapLimit), Unified: r.GetUnified()}
	// Without the controller there are no huge pages to be had beyond what the
	// node's administrator reserved, and nothing to limit them with; the kubelet
	// sends a limit for each page size all the same.
	if host.Hugetlb {
		for _, h := range r.GetHugepageLimits() {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.GetPageSize(), Limit: h.GetLimit()})
		}
	}
	return out
}

// oomScoreAdj is the adjustment that this process can make: without the capability to
// lower it, the node's own value is the least.
func oomScoreAdj(r *cri.LinuxContainerResources, host *HostFacts) *int {
	adj := max(int(r.GetOomScoreAdj()), host.MinOOMScoreAdj)
	return &adj
}

// cpu returns the limits of CPU time and the CPUs to run on; nil if there are none.
func cpu(r *cri.LinuxContainerResources) *specs.LinuxCPU {
	limits := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CpuShares > 0 {
		shares := uint64(r.CpuShares)
		limits.Shares = &shares
	}
	if r.CpuPeriod > 0 {
		period := uint64(r.CpuPeriod)
		limits.Period = &period
	}
	if r.CpuQuota != 0 {
		limits.Quota = &r.CpuQuota
	}
	if *limits == (specs.LinuxCPU{}) {
		return nil
	}
	return limits
}

// memory limits memory, and swap to none unless the pod asks for some: a
// container that swaps is slow, one that is killed is noticed. It returns nil if
// there are no limits.
func memory(r *cri.LinuxContainerResources, canLimitSwap bool) *specs.LinuxMemory {
	limits := &specs.LinuxMemory{}
	if r.MemoryLimitInBytes != 0 {
		limits.Limit = &r.MemoryLimitInBytes
	}
	if canLimitSwap {
		switch {
		case r.MemorySwapLimitInBytes != 0:
			limits.Swap = &r.MemorySwapLimitInBytes
		case limits.Limit != nil:
			limits.Swap = &r.MemoryLimitInBytes
		}
	}
	if *limits == (specs.LinuxMemory{}) {
		return nil
	}
	return limits
}

// clamp lowers a limit to what this process may set.
func (h *HostFacts) clamp(r specs.POSIXRlimit) specs.POSIXRlimit {
	if ceiling, ok := h.MaxRlimits[r.Type]; ok {
		r.Hard = min(r.Hard, ceiling)
	}
	r.Soft = min(r.Soft, r.Hard)
	return r
}
