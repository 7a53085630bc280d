package stats

import (
	"bytes"
	"fmt"
	"path/filepath"
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

// procs is the hierarchy in which processes are counted.
func (t *v1) procs() string {
	for _, mountpoint := range []string{t.pids, t.memory, t.cpu, t.cpuacct} {
		if mountpoint != "" {
			return mountpoint
		}
	}
	return t.unified
}

func (t *v1) read(cgroup string, want parts) (u usage, there bool) {
	u.at = time.Now()
	if t.cpuacct != "" {
		t.readCPU(&u, filepath.Join(t.cpuacct, cgroup), want)
	}
	if t.cpu != "" && want&throttling != 0 {
		readKeyed(filepath.Join(t.cpu, cgroup, "cpu.stat"), wanted{
			"nr_periods": &u.cpu.periods, "nr_throttled": &u.cpu.throttled, "throttled_time": &u.cpu.throttledFor,
			"nr_bursts": &u.cpu.burstPeriods, "burst_time": &u.cpu.burstFor,
		})
	}
	if t.memory != "" {
		t.readMemory(&u, filepath.Join(t.memory, cgroup), want)
	}
	if t.unified != "" && want&pressure != 0 {
		u.psi = readPressures(filepath.Join(t.unified, cgroup))
	}
	if t.pids != "" && want&tasks != 0 {
		u.threads = readNumber(filepath.Join(t.pids, cgroup, "pids.current"))
		u.maxThreads = readNumber(filepath.Join(t.pids, cgroup, "pids.max"))
	}
	if t.blkio != "" && want&diskIO != 0 {
		u.disks = readBlkio(filepath.Join(t.blkio, cgroup))
	}
	if t.hugetlb != "" && want&hugePages != 0 {
		for _, size := range t.pageSizes {
			file := filepath.Join(t.hugetlb, cgroup, "hugetlb."+size)
			u.pages = append(u.pages, pageUsage{size, readNumber(file + ".usage_in_bytes"), readNumber(file + ".max_usage_in_bytes")})
		}
	}
	return u, u.cpu.total.known || u.memory.usage.known
}

func (t *v1) readCPU(u *usage, dir string, want parts) {
	if want&(cpuAndMemory|cpuTimes) != 0 {
		u.cpu.total = readNumber(filepath.Join(dir, "cpuacct.usage"))
	}
	if want&cpuTimes != 0 {
		u.cpu.user = readNumber(filepath.Join(dir, "cpuacct.usage_user"))
		u.cpu.system = readNumber(filepath.Join(dir, "cpuacct.usage_sys"))
	}
}

func (t *v1) readMemory(u *usage, dir string, want parts) {
	m := &u.memory
	if want&(cpuAndMemory|memoryDetails) != 0 {
		m.usage = readNumber(filepath.Join(dir, "memory.usage_in_bytes"))
		if !m.usage.known {
			return // gone
		}
		m.limit = readNumber(filepath.Join(dir, "memory.limit_in_bytes"))
		readKeyed(filepath.Join(dir, "memory.stat"), wanted{
			"total_rss": &m.rss, "total_cache": &m.cache, "total_mapped_file": &m.mapped,
			"total_active_file": &m.activeFile, "total_inactive_file": &m.inactiveFile,
			"total_dirty": &m.dirty, "total_writeback": &m.writeback,
			"total_pgfault": &m.faults, "total_pgmajfault": &m.majorFaults,
			"pgfault": &m.ownFaults, "pgmajfault": &m.ownMajorFaults, "total_swap": &m.swap,
			"total_workingset_refault_file": &m.refaultedFile, "total_workingset_refault_anon": &m.refaultedAnon,
		})
		// Without accounting for swap there is neither the line nor the file.
		if m.swap.known {
			m.swapLimit = swapOnly(readNumber(filepath.Join(dir, "memory.memsw.limit_in_bytes")), m.limit)
		}
	}
	if want&memoryDetails != 0 {
		m.peak = readNumber(filepath.Join(dir, "memory.max_usage_in_bytes"))
		m.failures = readNumber(filepath.Join(dir, "memory.failcnt"))
		m.kernel = readNumber(filepath.Join(dir, "memory.kmem.usage_in_bytes"))
	}
	if want&oomKills != 0 {
		readKeyed(filepath.Join(dir, "memory.oom_control"), wanted{"oom_kill": &m.oomEvents})
	}
}

// readBlkio reads what a cgroup transferred. The throttling layer counts for every
// scheduler; on kernels where it does not, BFQ counts for itself.
func readBlkio(dir string) []diskUsage {
	for _, layer := range []string{"throttle", "bfq"} {
		var disks disks
		for suffix, number := range map[string]func(*operationUsage) *number{
			"io_service_bytes_recursive": func(o *operationUsage) *number { return &o.bytes },
			"io_serviced_recursive":      func(o *operationUsage) *number { return &o.count },
		} {
			inFile(filepath.Join(dir, "blkio."+layer+"."+suffix), func(content []byte) { disks.parseBlkio(content, number) })
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
