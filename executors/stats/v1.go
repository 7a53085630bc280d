package stats

import (
	"bytes"
	"fmt"
	"time"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// v1 reads cgroups of the first version: a hierarchy for each controller. On a hybrid
// node the pressure figures are in the hierarchy of the second version.
type v1 struct {
	cpu, cpuacct, memory, pids, blkio, hugetlb, unified string // mountpoints; empty: none
	pageSizes                                           []string
}

func newV1(node *cgroups.Node, pageSizes []string) *v1 {
	mountpoint := func(controller string) string {
		h, _ := node.Find(controller)
		return h.Mountpoint
	}
	t := &v1{
		cpu: mountpoint("cpu"), cpuacct: mountpoint("cpuacct"), memory: mountpoint("memory"),
		pids: mountpoint("pids"), blkio: mountpoint("blkio"), hugetlb: mountpoint("hugetlb"), pageSizes: pageSizes,
	}
	for _, h := range node.Hierarchies {
		if h.Unified {
			t.unified = h.Mountpoint
		}
	}
	return t
}

// procs is the hierarchy in which processes are counted: preferably one that is read anyway.
func (t *v1) procs() string {
	for _, mountpoint := range []string{t.memory, t.pids, t.cpu, t.cpuacct} {
		if mountpoint != "" {
			return mountpoint
		}
	}
	return t.unified
}

func (t *v1) read(cgroup limb, want parts) (usage, bool) {
	u := &cgroup.buffer.used
	*u = usage{at: time.Now()}
	in := func(mountpoint string, needed bool, read func(directory)) {
		if mountpoint != "" && needed {
			read(cgroup.in(mountpoint))
		}
	}
	if t.cpuacct != "" && want&(cpuAndMemory|cpuTimes) != 0 {
		readCPUAcct(&u.cpu, cgroup.once(t.cpuacct), want)
	}
	in(t.cpu, want&throttling != 0, func(dir directory) { cpuStatV1.take(dir.read("cpu.stat"), &u.cpu) })
	in(t.memory, want&(cpuAndMemory|memoryDetails|oomKills) != 0, func(dir directory) { readMemoryV1(&u.memory, dir, want) })
	in(t.unified, want&pressure != 0, func(dir directory) { u.psi = readPressures(dir) })
	in(t.pids, want&tasks != 0, func(dir directory) {
		u.threads, u.maxThreads = dir.number("pids.current"), dir.number("pids.max")
	})
	in(t.blkio, want&diskIO != 0, func(dir directory) { u.disks = readBlkio(dir) })
	in(t.hugetlb, want&hugePages != 0, func(dir directory) {
		for _, size := range t.pageSizes {
			u.pages = append(u.pages, pageUsage{size, dir.number("hugetlb." + size + ".usage_in_bytes"), dir.number("hugetlb." + size + ".max_usage_in_bytes")})
		}
	})
	return *u, u.cpu.total.known || u.memory.usage.known
}

func (t *v1) refresh(cgroup limb, f *figures, settled bool) {
	if t.memory != "" {
		f.memory.limits = limitsV1(cgroup.in(t.memory), f.memory.swap.known)
	}
	if t.unified != "" {
		f.psi.refresh(cgroup.in(t.unified), settled)
	}
}

func readCPUAcct(c *cpuUsage, dir directory, want parts) {
	c.total = dir.number("cpuacct.usage")
	if want&cpuTimes != 0 {
		c.user, c.system = dir.number("cpuacct.usage_user"), dir.number("cpuacct.usage_sys")
	}
}

var cpuStatV1 = keys[cpuUsage]{
	"nr_periods":     func(c *cpuUsage) *number { return &c.periods },
	"nr_throttled":   func(c *cpuUsage) *number { return &c.throttled },
	"throttled_time": func(c *cpuUsage) *number { return &c.throttledFor },
	"nr_bursts":      func(c *cpuUsage) *number { return &c.burstPeriods },
	"burst_time":     func(c *cpuUsage) *number { return &c.burstFor },
}

func readMemoryV1(m *memoryUsage, dir directory, want parts) {
	if want&(cpuAndMemory|memoryDetails) != 0 {
		m.usage = dir.number("memory.usage_in_bytes")
		if !m.usage.known {
			return // gone
		}
		memoryStatV1.take(dir.read("memory.stat"), m)
		if m.limit = m.treeLimit; !m.treeLimit.unlimited() {
			m.limits = limitsV1(dir, m.swap.known)
		}
	}
	if want&memoryDetails != 0 {
		m.peak = dir.number("memory.max_usage_in_bytes")
		m.failures = dir.number("memory.failcnt")
		m.kernel = dir.number("memory.kmem.usage_in_bytes")
	}
	if want&oomKills != 0 {
		oomControlV1.take(dir.read("memory.oom_control"), m)
	}
}

// limitsV1 reads a cgroup's own limits. Without accounting for swap, swap has none.
func limitsV1(dir directory, swap bool) (l limits) {
	l.limit = dir.number("memory.limit_in_bytes")
	if swap && !l.limit.unlimited() {
		l.swapLimit = swapOnly(dir.number("memory.memsw.limit_in_bytes"), l.limit)
	}
	return l
}

// memoryStatV1 has the sums over a cgroup and those below it, and its own page faults.
var memoryStatV1 = keys[memoryUsage]{
	"hierarchical_memory_limit":     func(m *memoryUsage) *number { return &m.treeLimit },
	"total_rss":                     func(m *memoryUsage) *number { return &m.rss },
	"total_cache":                   func(m *memoryUsage) *number { return &m.cache },
	"total_mapped_file":             func(m *memoryUsage) *number { return &m.mapped },
	"total_active_file":             func(m *memoryUsage) *number { return &m.activeFile },
	"total_inactive_file":           func(m *memoryUsage) *number { return &m.inactiveFile },
	"total_dirty":                   func(m *memoryUsage) *number { return &m.dirty },
	"total_writeback":               func(m *memoryUsage) *number { return &m.writeback },
	"total_pgfault":                 func(m *memoryUsage) *number { return &m.faults },
	"total_pgmajfault":              func(m *memoryUsage) *number { return &m.majorFaults },
	"pgfault":                       func(m *memoryUsage) *number { return &m.ownFaults },
	"pgmajfault":                    func(m *memoryUsage) *number { return &m.ownMajorFaults },
	"total_swap":                    func(m *memoryUsage) *number { return &m.swap },
	"total_workingset_refault_file": func(m *memoryUsage) *number { return &m.refaultedFile },
	"total_workingset_refault_anon": func(m *memoryUsage) *number { return &m.refaultedAnon },
}

var oomControlV1 = keys[memoryUsage]{"oom_kill": func(m *memoryUsage) *number { return &m.oomEvents }}

// readBlkio reads what a cgroup transferred. The throttling layer counts for every
// scheduler; on kernels where it does not, BFQ counts for itself.
func readBlkio(dir directory) []diskUsage {
	for _, layer := range []string{"throttle", "bfq"} {
		var disks disks
		for suffix, number := range map[string]func(*operationUsage) *number{
			"io_service_bytes_recursive": func(o *operationUsage) *number { return &o.bytes },
			"io_serviced_recursive":      func(o *operationUsage) *number { return &o.count },
		} {
			disks.parseBlkio(dir.read("blkio."+layer+"."+suffix), number)
		}
		if len(disks.all) > 0 {
			return disks.all
		}
	}
	return nil
}

// maxDisks bounds how many block devices are listed for one cgroup.
const maxDisks = 256

// disks collects figures by device.
type disks struct{ all []diskUsage }

// of returns the figures of an operation on a device, or nil if there are too many devices.
func (d *disks) of(device []byte, operation string) *operationUsage {
	var major, minor uint64
	if n, err := fmt.Sscanf(string(device), "%d:%d", &major, &minor); err != nil || n != 2 {
		return nil
	}
	var disk *diskUsage
	for i := range d.all {
		if d.all[i].major == major && d.all[i].minor == minor {
			disk = &d.all[i]
		}
	}
	if disk == nil {
		if len(d.all) == maxDisks {
			return nil
		}
		d.all = append(d.all, diskUsage{major: major, minor: minor})
		disk = &d.all[len(d.all)-1]
	}
	for i := range disk.operations {
		if disk.operations[i].name == operation {
			return &disk.operations[i]
		}
	}
	disk.operations = append(disk.operations, operationUsage{name: operation})
	return &disk.operations[len(disk.operations)-1]
}

// blkioOperations are the kinds of transfers that v1 counts.
var blkioOperations = map[string]bool{"Read": true, "Write": true, "Sync": true, "Async": true, "Discard": true, "Total": true}

// parseBlkio reads lines like "8:0 Read 4096".
func (d *disks) parseBlkio(content []byte, at func(*operationUsage) *number) {
	for line := range bytes.Lines(content) {
		fields := bytes.Fields(line)
		if len(fields) != 3 || !blkioOperations[string(fields[1])] {
			continue
		}
		if operation := d.of(fields[0], string(fields[1])); operation != nil {
			*at(operation) = parse(fields[2])
		}
	}
}
