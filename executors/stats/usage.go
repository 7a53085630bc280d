package stats

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// parts say what is read of a cgroup.
type parts uint

const (
	// cpuAndMemory has what the CRI's stats say of them, and of swap.
	cpuAndMemory parts = 1 << iota
	pressure
	cpuTimes
	throttling
	memoryDetails
	oomKills
	diskIO
	hugePages
	tasks
)

// basic is what the CRI's stats have.
const basic = cpuAndMemory | pressure

// usage is what a cgroup and those below it have used until a moment. What the kernel
// does not have is not known.
type usage struct {
	at     time.Time
	cpu    cpuUsage
	memory memoryUsage
	psi    pressures
	disks  []diskUsage
	pages  []pageUsage
	// threads and maxThreads count tasks.
	threads, maxThreads number
}

// cpuUsage has nanoseconds.
type cpuUsage struct {
	total, user, system    number
	periods, throttled     number
	throttledFor, burstFor number
	burstPeriods           number
}

// memoryUsage has bytes and counts.
type memoryUsage struct {
	usage, limit, peak, failures     number
	treeLimit                        number // the lowest of those above and the own
	kernel                           number
	rss, cache, mapped               number
	activeFile, inactiveFile         number
	dirty, writeback                 number
	faults, majorFaults              number // of the cgroup and those below
	ownFaults, ownMajorFaults        number
	swap, swapLimit                  number
	scanned, stolen                  number
	refaultedFile, refaultedAnon     number
	highEvents, maxEvents, oomEvents number
}

// workingSet is what the kubelet calls so: what is in use without the pages of files that
// were not used lately.
func (m memoryUsage) workingSet() number { return m.usage.minus(m.inactiveFile) }

// swapOnly is the limit of swap alone on v1, which limits memory and swap together.
func swapOnly(both, memory number) number {
	if !both.known || both.unlimited() || !memory.known || memory.unlimited() {
		return both
	}
	return both.minus(memory)
}

// pressures are how long the cgroup's tasks have waited. A nil one the kernel does not have.
type pressures struct{ cpu, memory, io *runtimeapi.PsiStats }

// diskUsage is what went to and came from a block device.
type diskUsage struct {
	major, minor uint64
	operations   []operationUsage
}

// operationUsage is a kind of transfer; v1's kinds are "Read", "Write", "Sync" and so on.
type operationUsage struct {
	name         string
	bytes, count number
}

// pageUsage is the use of huge pages of a size.
type pageUsage struct {
	size        string
	usage, peak number
}

func cpuMessage(u usage, nanoCores number) *runtimeapi.CpuUsage {
	numbers := &slab{}
	return &runtimeapi.CpuUsage{
		Timestamp:            u.at.UnixNano(),
		UsageCoreNanoSeconds: numbers.put(u.cpu.total),
		UsageNanoCores:       numbers.put(nanoCores),
		Psi:                  u.psi.cpu,
	}
}

func memoryMessage(u usage) *runtimeapi.MemoryUsage {
	numbers := &slab{}
	message := &runtimeapi.MemoryUsage{
		Timestamp:       u.at.UnixNano(),
		WorkingSetBytes: numbers.put(u.memory.workingSet()),
		UsageBytes:      numbers.put(u.memory.usage),
		RssBytes:        numbers.put(u.memory.rss),
		PageFaults:      numbers.put(u.memory.faults),
		MajorPageFaults: numbers.put(u.memory.majorFaults),
		Psi:             u.psi.memory,
	}
	if u.memory.usage.known && u.memory.limit.known && !u.memory.limit.unlimited() {
		message.AvailableBytes = numbers.put(u.memory.limit.minus(u.memory.workingSet()))
	}
	return message
}

// swapMessage is nil if swap is not accounted for.
func swapMessage(u usage) *runtimeapi.SwapUsage {
	if !u.memory.swap.known {
		return nil
	}
	message := &runtimeapi.SwapUsage{Timestamp: u.at.UnixNano(), SwapUsageBytes: u.memory.swap.message()}
	if u.memory.swapLimit.known && !u.memory.swapLimit.unlimited() {
		message.SwapAvailableBytes = u.memory.swapLimit.minus(u.memory.swap).message()
	}
	return message
}

// ioMessage is nil if the kernel has no pressure figures, which are all that the CRI has of
// it.
func ioMessage(u usage) *runtimeapi.IoUsage {
	if u.psi.io == nil {
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: u.at.UnixNano(), Psi: u.psi.io}
}
