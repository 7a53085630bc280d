package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// planResources sets the limits. A zero means "not specified" throughout the CRI.
func planResources(r *request, plan *Plan) error {
	if limit := r.res.MemoryLimitInBytes; limit > 0 && limit < r.Options.MinMemory {
		return invalid("linux.resources.memory_limit_in_bytes", limit, "is too low to start a container with this runtime, which takes %d bytes", r.Options.MinMemory)
	}
	out := plan.Spec.Linux.Resources
	out.CPU, out.Memory = cpu(r.res), memory(r.res, r.Host.SwapLimit)
	// Without the controller there are no huge pages to be had beyond what the
	// node's administrator reserved, and nothing to limit them with; the kubelet
	// sends a limit for each page size all the same.
	if r.Host.Hugetlb {
		for _, h := range r.res.HugepageLimits {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
		}
	}
	if len(r.res.Unified) > 0 {
		if !r.Host.CgroupV2 {
			return unsupported("linux.resources.unified", nil, "needs cgroup v2")
		}
		out.Unified = r.res.Unified
	}
	// Always said, or else the container would have the monitor's, which is as
	// low as can be. Without the capability to lower it, the node's own value is
	// the least.
	adj := max(int(r.res.OomScoreAdj), r.Host.MinOOMScoreAdj)
	plan.Spec.Process.OOMScoreAdj = &adj
	for _, limit := range r.Options.Rlimits {
		plan.Spec.Process.Rlimits = append(plan.Spec.Process.Rlimits, r.Host.clamp(limit))
	}
	return nil
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
