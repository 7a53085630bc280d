package stats

import (
	"bytes"
	"time"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// v2 reads cgroups of the second version: one hierarchy.
type v2 struct {
	root string
	// nested is the name of the cgroup in which a runtime puts a container's processes and
	// limits below the scope that systemd made; empty if there is none.
	nested    string
	pageSizes []string
}

// crunNested is where crun puts a container below its scope.
const crunNested = "container"

func newV2(node *cgroups.Node, systemd bool, pageSizes []string) *v2 {
	t := &v2{pageSizes: pageSizes}
	for _, h := range node.Hierarchies {
		t.root = h.Mountpoint
	}
	if systemd {
		t.nested = crunNested
	}
	return t
}

func (t *v2) procs() string { return t.root }

func (t *v2) read(cgroup limb, want parts) (usage, bool) {
	dir := cgroup.in(t.root)
	u := &cgroup.buffer.used
	*u = usage{at: time.Now()}
	if want&(cpuAndMemory|cpuTimes|throttling) != 0 {
		readCPUV2(&u.cpu, dir)
	}
	t.readMemory(&u.memory, dir, want)
	if want&pressure != 0 {
		u.psi = readPressures(dir)
	}
	if want&tasks != 0 {
		u.threads, u.maxThreads = dir.number("pids.current"), dir.number("pids.max")
	}
	if want&diskIO != 0 {
		u.disks = parseIOStat(dir.read("io.stat"))
	}
	if want&hugePages != 0 {
		for _, size := range t.pageSizes {
			u.pages = append(u.pages, pageUsage{size: size, usage: dir.number("hugetlb." + size + ".current")})
		}
	}
	return *u, u.cpu.total.known || u.memory.usage.known
}

func (t *v2) refresh(cgroup limb, f *figures, settled bool) {
	dir := cgroup.in(t.root)
	f.memory.limits = t.limits(dir, f.memory.swap.known)
	f.psi.refresh(dir, settled)
}

func (t *v2) limits(dir directory, swap bool) (l limits) {
	l.limit = t.limit(dir, "memory.max")
	if swap {
		l.swapLimit = t.limit(dir, "memory.swap.max")
	}
	return l
}

func readCPUV2(c *cpuUsage, dir directory) {
	cpuStatV2.take(dir.read("cpu.stat"), c)
	for _, microseconds := range []*number{&c.total, &c.user, &c.system, &c.throttledFor, &c.burstFor} {
		*microseconds = microseconds.scaled(1000)
	}
}

var cpuStatV2 = keys[cpuUsage]{
	"usage_usec":     func(c *cpuUsage) *number { return &c.total },
	"user_usec":      func(c *cpuUsage) *number { return &c.user },
	"system_usec":    func(c *cpuUsage) *number { return &c.system },
	"nr_periods":     func(c *cpuUsage) *number { return &c.periods },
	"nr_throttled":   func(c *cpuUsage) *number { return &c.throttled },
	"throttled_usec": func(c *cpuUsage) *number { return &c.throttledFor },
	"nr_bursts":      func(c *cpuUsage) *number { return &c.burstPeriods },
	"burst_usec":     func(c *cpuUsage) *number { return &c.burstFor },
}

func (t *v2) readMemory(m *memoryUsage, dir directory, want parts) {
	if want&(cpuAndMemory|memoryDetails) != 0 {
		m.usage = dir.number("memory.current")
		if !m.usage.known {
			return // gone, or the controller is not enabled here
		}
		memoryStatV2.take(dir.read("memory.stat"), m)
		m.ownFaults, m.ownMajorFaults = m.faults, m.majorFaults // v2 has only the sums
		m.swap = dir.number("memory.swap.current")
		m.limits = t.limits(dir, m.swap.known)
	}
	if want&memoryDetails != 0 {
		m.peak = dir.number("memory.peak")
	}
	if want&(memoryDetails|oomKills) != 0 {
		memoryEventsV2.take(dir.read("memory.events"), m)
		m.failures = m.maxEvents
	}
}

var memoryStatV2 = keys[memoryUsage]{
	"anon":                    func(m *memoryUsage) *number { return &m.rss },
	"file":                    func(m *memoryUsage) *number { return &m.cache },
	"file_mapped":             func(m *memoryUsage) *number { return &m.mapped },
	"kernel":                  func(m *memoryUsage) *number { return &m.kernel },
	"active_file":             func(m *memoryUsage) *number { return &m.activeFile },
	"inactive_file":           func(m *memoryUsage) *number { return &m.inactiveFile },
	"file_dirty":              func(m *memoryUsage) *number { return &m.dirty },
	"file_writeback":          func(m *memoryUsage) *number { return &m.writeback },
	"pgfault":                 func(m *memoryUsage) *number { return &m.faults },
	"pgmajfault":              func(m *memoryUsage) *number { return &m.majorFaults },
	"pgscan":                  func(m *memoryUsage) *number { return &m.scanned },
	"pgsteal":                 func(m *memoryUsage) *number { return &m.stolen },
	"workingset_refault_file": func(m *memoryUsage) *number { return &m.refaultedFile },
	"workingset_refault_anon": func(m *memoryUsage) *number { return &m.refaultedAnon },
}

var memoryEventsV2 = keys[memoryUsage]{
	"high":     func(m *memoryUsage) *number { return &m.highEvents },
	"max":      func(m *memoryUsage) *number { return &m.maxEvents },
	"oom_kill": func(m *memoryUsage) *number { return &m.oomEvents },
}

// limit is the lower of a cgroup's limit and the one that a runtime put below the scope.
func (t *v2) limit(dir directory, file string) number {
	limit := dir.number(file)
	if t.nested == "" {
		return limit
	}
	if below := dir.number(t.nested + "/" + file); below.known && (!limit.known || below.value < limit.value) {
		return below
	}
	return limit
}

// parseIOStat reads lines like "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func parseIOStat(content []byte) []diskUsage {
	var disks disks
	for line := range bytes.Lines(content) {
		device, rest, _ := bytes.Cut(line, []byte{' '})
		for field := range bytes.FieldsSeq(rest) {
			key, value, _ := bytes.Cut(field, []byte{'='})
			kind, isIO := ioStatKeys[string(key)]
			if !isIO {
				continue
			}
			operation := disks.of(device, kind.operation)
			switch {
			case operation == nil:
			case kind.bytes:
				operation.bytes = parse(value)
			default:
				operation.count = parse(value)
			}
		}
	}
	return disks.all
}

// ioStatKeys gives v2's operations the names of v1.
var ioStatKeys = map[string]struct {
	operation string
	bytes     bool
}{
	"rbytes": {"Read", true}, "rios": {"Read", false},
	"wbytes": {"Write", true}, "wios": {"Write", false},
	"dbytes": {"Discard", true}, "dios": {"Discard", false},
}
