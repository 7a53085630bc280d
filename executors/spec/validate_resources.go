package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

func checkResources(field string, r *cri.LinuxContainerResources) error {
	if r == nil {
		return nil
	}
	for _, n := range []struct {
		name       string
		value, min int64
	}{
		{"cpu_period", r.CpuPeriod, 0},
		// -1 means that there is no limit.
		{"cpu_quota", r.CpuQuota, -1},
		{"cpu_shares", r.CpuShares, 0},
		{"memory_limit_in_bytes", r.MemoryLimitInBytes, -1},
		{"memory_swap_limit_in_bytes", r.MemorySwapLimitInBytes, -1},
	} {
		if n.value < n.min {
			return refusal.Invalid(field+"."+n.name, n.value, "is negative")
		}
	}
	if r.MemorySwapLimitInBytes > 0 && r.MemorySwapLimitInBytes < r.MemoryLimitInBytes {
		return refusal.Invalid(field+".memory_swap_limit_in_bytes", r.MemorySwapLimitInBytes, "is below the memory limit, which it includes")
	}
	if r.OomScoreAdj < -1000 || r.OomScoreAdj > 1000 {
		return refusal.Invalid(field+".oom_score_adj", r.OomScoreAdj, "is out of range (-1000 to 1000)")
	}
	for _, set := range []struct{ name, value string }{{"cpuset_cpus", r.CpusetCpus}, {"cpuset_mems", r.CpusetMems}} {
		if set.value != "" && !isList(set.value) {
			return refusal.Invalid(field+"."+set.name, set.value, "is not a list of numbers and ranges")
		}
	}
	for _, h := range r.HugepageLimits {
		if !isPageSize(h.GetPageSize()) {
			return refusal.Invalid(field+".hugepage_limits.page_size", h.GetPageSize(), "is not of the form 2MB")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		if !isCgroupFile(key) {
			return refusal.Invalid(field+".unified", key, "is not a file of a controller")
		}
		if strings.ContainsAny(r.Unified[key], "\x00\r\n") {
			return refusal.Invalid(field+".unified", key, "has a value with a line break")
		}
	}
	return nil
}

// maxQuota is the kernel's bound of a CPU quota, in microseconds.
const maxQuota = 1<<44 - 1

// checkSwap refuses a limit of memory and swap together without one of memory, which runtimes
// refuse, too.
func checkSwap(field string, r *cri.LinuxContainerResources) error {
	if r.GetMemorySwapLimitInBytes() > 0 && r.GetMemoryLimitInBytes() <= 0 {
		return refusal.Invalid(field+".memory_swap_limit_in_bytes", r.MemorySwapLimitInBytes, "is given without memory_limit_in_bytes")
	}
	return nil
}

// checkCPU refuses what the kernel takes from no cgroup, in microseconds and shares. Zero
// is not set.
func checkCPU(field string, r *cri.LinuxContainerResources) error {
	for _, n := range []struct {
		name            string
		value, min, max int64
	}{
		{"cpu_period", r.GetCpuPeriod(), 1000, 1000000},
		{"cpu_quota", max(r.GetCpuQuota(), 0), 1000, maxQuota},
		{"cpu_shares", r.GetCpuShares(), 2, 262144},
	} {
		if n.value != 0 && (n.value < n.min || n.value > n.max) {
			return refusal.Invalid(field+"."+n.name, n.value, "is out of the kernel's range (%d to %d)", n.min, n.max)
		}
	}
	return nil
}

// isList accepts numbers and ranges as the kernel's lists have them: 0-3,7.
func isList(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return false
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if isRange && (err != nil || to < from) {
			return false
		}
	}
	return true
}

// isPageSize accepts a number and KB, MB or GB.
func isPageSize(s string) bool {
	number, ok := strings.CutSuffix(s, "B")
	if !ok || len(number) < 2 || !strings.ContainsAny(number[len(number)-1:], "KMG") {
		return false
	}
	return isNumber(number[:len(number)-1]) && number[0] != '0'
}

// isCgroupFile accepts files of v2 controllers, and so neither paths nor
// cgroup.procs, cgroup.kill and their like, which don't set a limit. Nor do files that act when
// they are written (memory.reclaim), change the node's own share (cpuset partitions) or watch.
func isCgroupFile(key string) bool {
	if key == "memory.reclaim" || key == "cpuset.cpus.partition" || key == "cpuset.cpus.exclusive" || strings.HasSuffix(key, ".pressure") {
		return false
	}
	controller, rest, ok := strings.Cut(key, ".")
	if !ok || rest == "" || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._") != "" || strings.Contains(rest, "..") {
		return false
	}
	switch controller {
	case "cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc":
		return true
	}
	return false
}
