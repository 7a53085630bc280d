package nri

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limits are the part of generator that is about limits.
type limits struct{ to *specs.LinuxResources }

func (l limits) AddLinuxResourcesDevice(allow bool, kind string, major, minor *int64, access string) {
	l.to.Devices = append(l.to.Devices,
		specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: major, Minor: minor, Access: access})
}

func (l limits) AddLinuxResourcesHugepageLimit(size string, limit uint64) {
	limits := slices.DeleteFunc(l.to.HugepageLimits, func(h specs.LinuxHugepageLimit) bool { return h.Pagesize == size })
	l.to.HugepageLimits = append(limits, specs.LinuxHugepageLimit{Pagesize: size, Limit: limit})
}

func (l limits) AddLinuxResourcesUnified(key, value string) {
	if l.to.Unified == nil {
		l.to.Unified = map[string]string{}
	}
	l.to.Unified[key] = value
}

func (l limits) cpu() *specs.LinuxCPU {
	if l.to.CPU == nil {
		l.to.CPU = &specs.LinuxCPU{}
	}
	return l.to.CPU
}

func (l limits) SetLinuxResourcesCPUShares(n uint64)         { l.cpu().Shares = &n }
func (l limits) SetLinuxResourcesCPUQuota(n int64)           { l.cpu().Quota = &n }
func (l limits) SetLinuxResourcesCPUPeriod(n uint64)         { l.cpu().Period = &n }
func (l limits) SetLinuxResourcesCPURealtimeRuntime(n int64) { l.cpu().RealtimeRuntime = &n }
func (l limits) SetLinuxResourcesCPURealtimePeriod(n uint64) { l.cpu().RealtimePeriod = &n }
func (l limits) SetLinuxResourcesCPUCpus(cpus string)        { l.cpu().Cpus = cpus }
func (l limits) SetLinuxResourcesCPUMems(mems string)        { l.cpu().Mems = mems }

func (l limits) memory() *specs.LinuxMemory {
	if l.to.Memory == nil {
		l.to.Memory = &specs.LinuxMemory{}
	}
	return l.to.Memory
}

func (l limits) SetLinuxResourcesMemoryLimit(n int64) { l.memory().Limit = &n }
func (l limits) SetLinuxResourcesMemorySwap(n int64)  { l.memory().Swap = &n }
