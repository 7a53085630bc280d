package stats

import (
	"bytes"
	"path/filepath"
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

func (t *v2) read(cgroup string, want parts) (u usage, there bool) {
	u.at = time.Now()
	dir := filepath.Join(t.root, cgroup)
	if want&(cpuAndMemory|cpuTimes|throttling) != 0 {
		t.readCPU(&u.cpu, dir)
	}
	t.readMemory(&u.memory, dir, want)
	if want&pressure != 0 {
		u.psi = readPressures(dir)
	}
	if want&tasks != 0 {
		u.threads = readNumber(filepath.Join(dir, "pids.current"))
		u.maxThreads = readNumber(filepath.Join(dir, "pids.max"))
	}
	if want&diskIO != 0 {
		inFile(filepath.Join(dir, "io.stat"), func(content []byte) { u.disks = parseIOStat(content) })
	}
	if want&hugePages != 0 {
		for _, size := range t.pageSizes {
			u.pages = append(u.pages, pageUsage{size: size, usage: readNumber(filepath.Join(dir, "hugetlb."+size+".current"))})
		}
	}
	return u, u.cpu.total.known || u.memory.usage.known
}

func (t *v2) readCPU(c *cpuUsage, dir string) {
	readKeyed(filepath.Join(dir, "cpu.stat"), wanted{
		"usage_usec": &c.total, "user_usec": &c.user, "system_usec": &c.system,
		"nr_periods": &c.periods, "nr_throttled": &c.throttled, "throttled_usec": &c.throttledFor,
		"nr_bursts": &c.burstPeriods, "burst_usec": &c.burstFor,
	})
	for _, microseconds := range []*number{&c.total, &c.user, &c.system, &c.throttledFor, &c.burstFor} {
		*microseconds = microseconds.scaled(1000)
	}
}

func (t *v2) readMemory(m *memoryUsage, dir string, want parts) {
	if want&(cpuAndMemory|memoryDetails) != 0 {
		m.usage = readNumber(filepath.Join(dir, "memory.current"))
		if !m.usage.known {
			return // gone, or the controller is not enabled here
		}
		m.limit = t.limit(dir, "memory.max")
		readKeyed(filepath.Join(dir, "memory.stat"), wanted{
			"anon": &m.rss, "file": &m.cache, "file_mapped": &m.mapped, "kernel": &m.kernel,
			"active_file": &m.activeFile, "inactive_file": &m.inactiveFile,
			"file_dirty": &m.dirty, "file_writeback": &m.writeback,
			"pgfault": &m.faults, "pgmajfault": &m.majorFaults, "pgscan": &m.scanned, "pgsteal": &m.stolen,
			"workingset_refault_file": &m.refaultedFile, "workingset_refault_anon": &m.refaultedAnon,
		})
		m.ownFaults, m.ownMajorFaults = m.faults, m.majorFaults // v2 has only the sums
		if m.swap = readNumber(filepath.Join(dir, "memory.swap.current")); m.swap.known {
			m.swapLimit = t.limit(dir, "memory.swap.max")
		}
	}
	if want&memoryDetails != 0 {
		m.peak = readNumber(filepath.Join(dir, "memory.peak"))
	}
	if want&(memoryDetails|oomKills) != 0 {
		readKeyed(filepath.Join(dir, "memory.events"), wanted{"high": &m.highEvents, "max": &m.maxEvents, "oom_kill": &m.oomEvents})
		m.failures = m.maxEvents
	}
}

// limit is the lower of a cgroup's limit and the one that a runtime put below the scope.
func (t *v2) limit(dir, file string) number {
	limit := readNumber(filepath.Join(dir, file))
	if t.nested == "" {
		return limit
	}
	if below := readNumber(filepath.Join(dir, t.nested, file)); below.known && (!limit.known || below.value < limit.value) {
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
