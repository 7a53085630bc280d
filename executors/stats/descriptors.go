package stats

import (
	"slices"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AllGroups stands for every group.
const AllGroups = "all"

// Groups are the groups of metrics that can be chosen; they have CRI-O's names. What is in
// none of them is always there.
func Groups() []string {
	return []string{"cpu", "memory", "network", "oom", "process", "spec", "disk", "diskIO", "hugetlb", "pressure"}
}

// partsOf are the parts of a cgroup that the metrics of a group need.
var partsOf = map[string]parts{
	"cpu": cpuAndMemory | cpuTimes | throttling, "memory": cpuAndMemory | memoryDetails, "oom": oomKills, "process": tasks,
	"diskIO": diskIO, "hugetlb": hugePages, "pressure": pressure,
}

// baseLabels are the labels of all metrics. Names and meanings are those that the kubelet
// gives them when it gets its metrics from cAdvisor, so that rules and dashboards need not
// change: id is the path of the cgroup, name the container's id.
var baseLabels = []string{"id", "name", "image", "namespace", "pod", "container"}

// metric is a descriptor, and how its values come from a reading.
type metric struct {
	group, name, help string
	kind              runtimeapi.MetricType
	// labels are added to baseLabels.
	labels []string
	values func(r *reading, put put)
}

// put adds a value, if it is known, with the values of the metric's own labels.
type put func(value number, labels ...string)

func (m *metric) descriptor() *runtimeapi.MetricDescriptor {
	return &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: slices.Concat(baseLabels, m.labels)}
}

func gauge(group, name, help string, value func(*reading) number) metric {
	return metric{group, name, help, runtimeapi.MetricType_GAUGE, nil, single(group, value)}
}

func counter(group, name, help string, value func(*reading) number) metric {
	return metric{group, name, help, runtimeapi.MetricType_COUNTER, nil, single(group, value)}
}

// single puts one value. What the kernel does not count of CPU and memory is 0, as in what
// the kubelet publishes otherwise: whoever has the descriptor expects the metric.
func single(group string, value func(*reading) number) func(*reading, put) {
	return func(r *reading, put put) {
		n := value(r)
		if !n.known && (group == "cpu" && r.cpu.total.known || group == "memory" && r.memory.usage.known) {
			n = known(0)
		}
		put(n)
	}
}

// gauges and counters have labels of their own.
func gauges(group, name, help, labels string, values func(*reading, put)) metric {
	return metric{group, name, help, runtimeapi.MetricType_GAUGE, strings.Fields(labels), values}
}

func counters(group, name, help, labels string, values func(*reading, put)) metric {
	return metric{group, name, help, runtimeapi.MetricType_COUNTER, strings.Fields(labels), values}
}

// seconds are whole ones: the CRI's metrics have no fractions.
func seconds(nanoseconds number) number {
	return number{nanoseconds.value / uint64(time.Second), nanoseconds.known}
}

// ofGroups returns the metrics of the groups, and those that are always there.
func ofGroups(groups []string) (chosen []metric) {
	for _, m := range allMetrics {
		if m.group == "" || slices.Contains(groups, m.group) || slices.Contains(groups, AllGroups) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// allMetrics are those that a kubelet publishes at /metrics/cadvisor, and the further ones
// of CRI-O's groups.
var allMetrics = []metric{
	gauge("", "container_last_seen", "When the container was last seen, in seconds since 1970", func(r *reading) number { return r.seen }),

	counter("cpu", "container_cpu_user_seconds_total", "CPU time in user mode", func(r *reading) number { return seconds(r.cpu.user) }),
	counter("cpu", "container_cpu_system_seconds_total", "CPU time in the kernel", func(r *reading) number { return seconds(r.cpu.system) }),
	counters("cpu", "container_cpu_usage_seconds_total", "CPU time", "cpu", func(r *reading, put put) { put(seconds(r.cpu.total), "total") }),
	counter("cpu", "container_cpu_cfs_periods_total", "Periods in which a quota of CPU time applied", func(r *reading) number { return r.cpu.periods }),
	counter("cpu", "container_cpu_cfs_throttled_periods_total", "Periods in which the quota was used up", func(r *reading) number { return r.cpu.throttled }),
	counter("cpu", "container_cpu_cfs_throttled_seconds_total", "How long tasks waited for the next period's quota", func(r *reading) number { return seconds(r.cpu.throttledFor) }),
	counter("cpu", "container_cpu_cfs_burst_periods_total", "Periods in which more than the quota was used", func(r *reading) number { return r.cpu.burstPeriods }),
	counter("cpu", "container_cpu_cfs_burst_seconds_total", "CPU time above the quota", func(r *reading) number { return seconds(r.cpu.burstFor) }),

	gauge("memory", "container_memory_cache", "Bytes of page cache", func(r *reading) number { return r.memory.cache }),
	gauge("memory", "container_memory_rss", "Bytes of anonymous memory", func(r *reading) number { return r.memory.rss }),
	gauge("memory", "container_memory_kernel_usage", "Bytes of the kernel's memory for the container", func(r *reading) number { return r.memory.kernel }),
	gauge("memory", "container_memory_mapped_file", "Bytes of mapped files", func(r *reading) number { return r.memory.mapped }),
	gauge("memory", "container_memory_swap", "Bytes in swap", func(r *reading) number { return r.memory.swap }),
	counter("memory", "container_memory_failcnt", "How often memory reached its limit", func(r *reading) number { return r.memory.failures }),
	gauge("memory", "container_memory_usage_bytes", "Bytes of memory in use, page cache included", func(r *reading) number { return r.memory.usage }),
	gauge("memory", "container_memory_max_usage_bytes", "Most bytes of memory that were in use", func(r *reading) number { return r.memory.peak }),
	gauge("memory", "container_memory_working_set_bytes", "Bytes of memory in use without pages of files that were not used lately", func(r *reading) number { return r.memory.workingSet() }),
	gauge("memory", "container_memory_total_active_file_bytes", "Bytes of page cache that were used lately", func(r *reading) number { return r.memory.activeFile }),
	gauge("memory", "container_memory_total_inactive_file_bytes", "Bytes of page cache that were not used lately", func(r *reading) number { return r.memory.inactiveFile }),
	gauge("memory", "container_memory_file_dirty_bytes", "Bytes of page cache that the disk does not have yet", func(r *reading) number { return r.memory.dirty }),
	gauge("memory", "container_memory_file_writeback_bytes", "Bytes of page cache that are being written", func(r *reading) number { return r.memory.writeback }),
	counter("memory", "container_memory_pgscan_total", "Pages that reclaim looked at", func(r *reading) number { return r.memory.scanned }),
	counter("memory", "container_memory_pgsteal_total", "Pages that were reclaimed", func(r *reading) number { return r.memory.stolen }),
	counter("memory", "container_memory_workingset_refault_file_total", "Pages of files that were needed again after their reclaim", func(r *reading) number { return r.memory.refaultedFile }),
	counter("memory", "container_memory_workingset_refault_anon_total", "Anonymous pages that were needed again after their reclaim", func(r *reading) number { return r.memory.refaultedAnon }),
	counter("memory", "container_memory_events_high_total", "How often tasks were slowed down because of memory.high", func(r *reading) number { return r.memory.highEvents }),
	counter("memory", "container_memory_events_max_total", "How often memory reached memory.max", func(r *reading) number { return r.memory.maxEvents }),
	counters("memory", "container_memory_failures_total", "Page faults", "failure_type scope", func(r *reading, put put) {
		put(r.memory.ownFaults, "pgfault", "container")
		put(r.memory.faults, "pgfault", "hierarchy")
		put(r.memory.ownMajorFaults, "pgmajfault", "container")
		put(r.memory.majorFaults, "pgmajfault", "hierarchy")
	}),

	counter("oom", "container_oom_events_total", "Processes that were killed for lack of memory", func(r *reading) number { return r.memory.oomEvents }),

	gauge("process", "container_processes", "Processes", func(r *reading) number { return r.processes }),
	gauge("process", "container_threads", "Threads", func(r *reading) number { return r.threads }),
	gauge("process", "container_threads_max", "Most threads that are allowed; 0: any number", func(r *reading) number { return noneIfUnlimited(r.maxThreads) }),
	gauge("process", "container_file_descriptors", "Open file descriptors", func(r *reading) number { return r.files }),
	gauge("process", "container_sockets", "Open sockets", func(r *reading) number { return r.sockets }),
	gauges("process", "container_ulimits_soft", "Soft limits of the container's first process", "ulimit", func(r *reading, put put) { put(r.openFiles, "max_open_files") }),

	gauge("spec", "container_start_time_seconds", "When the container was started, in seconds since 1970", func(r *reading) number { return r.spec.started }),
	gauge("spec", "container_spec_cpu_period", "Length of a CPU quota's period in microseconds", func(r *reading) number { return r.spec.cpuPeriod }),
	gauge("spec", "container_spec_cpu_quota", "CPU time in a period in microseconds", func(r *reading) number { return r.spec.cpuQuota }),
	gauge("spec", "container_spec_cpu_shares", "Weight of the container when CPU time is short", func(r *reading) number { return r.spec.cpuShares }),
	gauge("spec", "container_spec_memory_limit_bytes", "Limit of memory; 0: none", func(r *reading) number { return r.spec.memoryLimit }),
	gauge("spec", "container_spec_memory_reservation_limit_bytes", "Memory that is kept for the container", func(r *reading) number { return r.spec.memoryReserved }),
	gauge("spec", "container_spec_memory_swap_limit_bytes", "Limit of memory and swap together; 0: none", func(r *reading) number { return r.spec.swapLimit }),

	gauges("disk", "container_fs_inodes_free", "Free inodes of the writable layer's file system", "device", func(r *reading, put put) { put(r.fs.inodesFree, r.fs.device) }),
	gauges("disk", "container_fs_inodes_total", "Inodes of the writable layer's file system", "device", func(r *reading, put put) { put(r.fs.inodes, r.fs.device) }),
	gauges("disk", "container_fs_limit_bytes", "Size of the writable layer's file system", "device", func(r *reading, put put) { put(r.fs.bytes, r.fs.device) }),
	gauges("disk", usageOfLayer, "Bytes of the writable layer", "device", func(r *reading, put put) { put(r.layerBytes, r.fs.device) }),

	counters("diskIO", "container_fs_reads_bytes_total", "Bytes that were read", "device", func(r *reading, put put) { r.transfers("Read", true, put) }),
	counters("diskIO", "container_fs_reads_total", "Reads", "device", func(r *reading, put put) { r.transfers("Read", false, put) }),
	counters("diskIO", "container_fs_writes_bytes_total", "Bytes that were written", "device", func(r *reading, put put) { r.transfers("Write", true, put) }),
	counters("diskIO", "container_fs_writes_total", "Writes", "device", func(r *reading, put put) { r.transfers("Write", false, put) }),
	counters("diskIO", "container_blkio_device_usage_total", "Bytes by kind of transfer", "device major minor operation", func(r *reading, put put) {
		for _, disk := range r.disks {
			for _, operation := range disk.operations {
				put(operation.bytes, r.nameOf(disk), strconv.FormatUint(disk.major, 10), strconv.FormatUint(disk.minor, 10), operation.name)
			}
		}
	}),

	gauges("hugetlb", "container_hugetlb_usage_bytes", "Bytes of huge pages in use", "pagesize", func(r *reading, put put) {
		for _, pages := range r.pages {
			put(pages.usage, pages.size)
		}
	}),
	gauges("hugetlb", "container_hugetlb_max_usage_bytes", "Most bytes of huge pages that were in use", "pagesize", func(r *reading, put put) {
		for _, pages := range r.pages {
			put(pages.peak, pages.size)
		}
	}),

	counters("network", "container_network_receive_bytes_total", "Bytes received", "interface", ofInterfaces(func(x interfaceUsage) number { return x.rxBytes })),
	counters("network", "container_network_receive_packets_total", "Packets received", "interface", ofInterfaces(func(x interfaceUsage) number { return x.rxPackets })),
	counters("network", "container_network_receive_packets_dropped_total", "Packets dropped on receipt", "interface", ofInterfaces(func(x interfaceUsage) number { return x.rxDropped })),
	counters("network", "container_network_receive_errors_total", "Errors of receipt", "interface", ofInterfaces(func(x interfaceUsage) number { return x.rxErrors })),
	counters("network", "container_network_transmit_bytes_total", "Bytes sent", "interface", ofInterfaces(func(x interfaceUsage) number { return x.txBytes })),
	counters("network", "container_network_transmit_packets_total", "Packets sent", "interface", ofInterfaces(func(x interfaceUsage) number { return x.txPackets })),
	counters("network", "container_network_transmit_packets_dropped_total", "Packets dropped instead of sent", "interface", ofInterfaces(func(x interfaceUsage) number { return x.txDropped })),
	counters("network", "container_network_transmit_errors_total", "Errors of sending", "interface", ofInterfaces(func(x interfaceUsage) number { return x.txErrors })),

	counter("pressure", "container_pressure_cpu_waiting_seconds_total", "How long some task waited for a CPU", func(r *reading) number { return seconds(r.psi.cpu.some.total) }),
	counter("pressure", "container_pressure_cpu_stalled_seconds_total", "How long all tasks waited for a CPU", func(r *reading) number { return seconds(r.psi.cpu.full.total) }),
	counter("pressure", "container_pressure_memory_waiting_seconds_total", "How long some task waited for memory", func(r *reading) number { return seconds(r.psi.memory.some.total) }),
	counter("pressure", "container_pressure_memory_stalled_seconds_total", "How long all tasks waited for memory", func(r *reading) number { return seconds(r.psi.memory.full.total) }),
	counter("pressure", "container_pressure_io_waiting_seconds_total", "How long some task waited for a disk", func(r *reading) number { return seconds(r.psi.io.some.total) }),
	counter("pressure", "container_pressure_io_stalled_seconds_total", "How long all tasks waited for a disk", func(r *reading) number { return seconds(r.psi.io.full.total) }),
}

// usageOfLayer is the only metric that is not read in the call.
const usageOfLayer = "container_fs_usage_bytes"

func ofInterfaces(figure func(interfaceUsage) number) func(*reading, put) {
	return func(r *reading, put put) {
		for _, x := range r.interfaces {
			put(figure(x), x.name)
		}
	}
}

func noneIfUnlimited(limit number) number {
	if limit.unlimited() {
		return known(0)
	}
	return limit
}
