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
	basicMemory
	peak, failures                   number
	treeLimit                        number // the lowest of those above and the own
	kernel                           number
	cache, mapped                    number
	activeFile                       number
	dirty, writeback                 number
	ownFaults, ownMajorFaults        number
	scanned, stolen                  number
	refaultedFile, refaultedAnon     number
	highEvents, maxEvents, oomEvents number
}

// basicMemory is what the CRI's stats say of memory and swap.
type basicMemory struct {
	usage, rss, inactiveFile number
	faults, majorFaults      number // of the cgroup and those below
	swap                     number
	limits
}

// limits are a cgroup's own; unlimited or not known, if it has none.
type limits struct{ limit, swapLimit number }

// workingSet is what the kubelet calls so: what is in use without the pages of files that
// were not used lately.
func (m basicMemory) workingSet() number { return m.usage.minus(m.inactiveFile) }

// swapOnly is the limit of swap alone on v1, which limits memory and swap together.
func swapOnly(both, memory number) number {
	if !both.known || both.unlimited() || !memory.known || memory.unlimited() {
		return both
	}
	return both.minus(memory)
}

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

// figures are what the CRI's stats say of a cgroup. They can be compared.
type figures struct {
	cpu    number // nanoseconds
	memory basicMemory
	psi    pressures
}

func (u *usage) figures() figures { return figures{u.cpu.total, u.memory.basicMemory, u.psi} }

// lasting are the figures without those that change with time alone.
func (f *figures) lasting() figures { return figures{f.cpu, f.memory, f.psi.totals()} }

func (f *figures) cpuMessage(at time.Time, nanoCores number) *runtimeapi.CpuUsage {
	numbers := &slab{}
	return &runtimeapi.CpuUsage{
		Timestamp:            at.UnixNano(),
		UsageCoreNanoSeconds: numbers.put(f.cpu),
		UsageNanoCores:       numbers.put(nanoCores),
		Psi:                  f.psi.cpu.message(),
	}
}

func (f *figures) memoryMessage(at time.Time) *runtimeapi.MemoryUsage {
	numbers, m := &slab{}, &f.memory
	message := &runtimeapi.MemoryUsage{
		Timestamp:       at.UnixNano(),
		WorkingSetBytes: numbers.put(m.workingSet()),
		UsageBytes:      numbers.put(m.usage),
		RssBytes:        numbers.put(m.rss),
		PageFaults:      numbers.put(m.faults),
		MajorPageFaults: numbers.put(m.majorFaults),
		Psi:             f.psi.memory.message(),
	}
	if m.usage.known && m.limit.known && !m.limit.unlimited() {
		message.AvailableBytes = numbers.put(m.limit.minus(m.workingSet()))
	}
	return message
}

// swapMessage is nil if swap is not accounted for.
func (f *figures) swapMessage(at time.Time) *runtimeapi.SwapUsage {
	m := &f.memory
	if !m.swap.known {
		return nil
	}
	message := &runtimeapi.SwapUsage{Timestamp: at.UnixNano(), SwapUsageBytes: m.swap.message()}
	if m.swapLimit.known && !m.swapLimit.unlimited() {
		message.SwapAvailableBytes = m.swapLimit.minus(m.swap).message()
	}
	return message
}

// ioMessage is nil if the kernel has no pressure figures, which are all that the CRI has of
// it.
func (f *figures) ioMessage(at time.Time) *runtimeapi.IoUsage {
	psi := f.psi.io.message()
	if psi == nil {
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: at.UnixNano(), Psi: psi}
}
