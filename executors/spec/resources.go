package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// resources sets the limits. A zero means "not specified" throughout the CRI.
func (b *builder) resources() error {
	b.cpu()
	b.memory()
	out := b.spec.Linux.Resources
	// Without the controller there are no huge pages to be had beyond what the
	// node's administrator reserved, and nothing to limit them with; the kubelet
	// sends a limit for each page size all the same.
	if b.in.Host.Hugetlb {
		for _, h := range b.res.HugepageLimits {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
		}
	}
	if len(b.res.Unified) > 0 {
		if !b.in.Host.CgroupV2 {
			return unsupported("linux.resources.unified", nil, "needs cgroup v2")
		}
		out.Unified = b.res.Unified
	}
	// Always said, or else the container would have the monitor's, which is as
	// low as can be. Without the capability to lower it, the node's own value is
	// the least.
	adj := max(int(b.res.OomScoreAdj), b.in.Host.MinOOMScoreAdj)
	b.spec.Process.OOMScoreAdj = &adj
	for _, r := range b.in.Options.Rlimits {
		b.spec.Process.Rlimits = append(b.spec.Process.Rlimits, b.in.Host.clamp(r))
	}
	return nil
}

func (b *builder) cpu() {
	r := b.res
	cpu := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CpuShares > 0 {
		shares := uint64(r.CpuShares)
		cpu.Shares = &shares
	}
	if r.CpuPeriod > 0 {
		period := uint64(r.CpuPeriod)
		cpu.Period = &period
	}
	if r.CpuQuota != 0 {
		cpu.Quota = &r.CpuQuota
	}
	if *cpu != (specs.LinuxCPU{}) {
		b.spec.Linux.Resources.CPU = cpu
	}
}

// memory limits memory, and swap to none unless the pod asks for some: a
// container that swaps is slow, one that is killed is noticed.
func (b *builder) memory() {
	r := b.res
	mem := &specs.LinuxMemory{}
	if r.MemoryLimitInBytes != 0 {
		mem.Limit = &r.MemoryLimitInBytes
	}
	if b.in.Host.SwapLimit {
		switch {
		case r.MemorySwapLimitInBytes != 0:
			mem.Swap = &r.MemorySwapLimitInBytes
		case mem.Limit != nil:
			mem.Swap = &r.MemoryLimitInBytes
		}
	}
	if *mem != (specs.LinuxMemory{}) {
		b.spec.Linux.Resources.Memory = mem
	}
}

// clamp lowers a limit to what this process may set.
func (h *HostFacts) clamp(r specs.POSIXRlimit) specs.POSIXRlimit {
	if ceiling, ok := h.MaxRlimits[r.Type]; ok {
		r.Hard = min(r.Hard, ceiling)
	}
	r.Soft = min(r.Soft, r.Hard)
	return r
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
