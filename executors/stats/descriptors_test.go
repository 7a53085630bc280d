package stats

import (
	"slices"
	"strings"
	"testing"
)

// published are the metrics of pods and containers that the kubelet's own end-to-end test
// expects at /metrics/cadvisor (test/e2e_node/container_metrics_test.go of Kubernetes 1.37).
const published = `
container_blkio_device_usage_total container_cpu_system_seconds_total container_cpu_usage_seconds_total
container_cpu_user_seconds_total container_file_descriptors container_fs_reads_bytes_total container_fs_reads_total
container_fs_usage_bytes container_fs_writes_bytes_total container_fs_writes_total container_last_seen
container_memory_cache container_memory_events_high_total container_memory_events_max_total container_memory_failcnt
container_memory_failures_total container_memory_mapped_file container_memory_max_usage_bytes container_memory_rss
container_memory_swap container_memory_usage_bytes container_memory_working_set_bytes container_oom_events_total
container_processes container_sockets container_spec_cpu_period container_spec_cpu_shares
container_spec_memory_limit_bytes container_spec_memory_reservation_limit_bytes container_spec_memory_swap_limit_bytes
container_start_time_seconds container_threads container_threads_max container_ulimits_soft
container_fs_inodes_free container_fs_inodes_total container_fs_limit_bytes
container_network_receive_bytes_total container_network_receive_errors_total
container_network_receive_packets_dropped_total container_network_receive_packets_total
container_network_transmit_bytes_total container_network_transmit_errors_total
container_network_transmit_packets_dropped_total container_network_transmit_packets_total
container_pressure_cpu_stalled_seconds_total container_pressure_cpu_waiting_seconds_total
container_pressure_io_stalled_seconds_total container_pressure_io_waiting_seconds_total
container_pressure_memory_stalled_seconds_total container_pressure_memory_waiting_seconds_total
container_cpu_cfs_periods_total container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total
container_spec_cpu_quota container_memory_kernel_usage container_hugetlb_usage_bytes container_hugetlb_max_usage_bytes`

func TestDescriptors(t *testing.T) {
	r := onV2("testdata/v2", false)
	names := map[string]bool{}
	for _, d := range r.Descriptors() {
		if names[d.GetName()] || d.GetHelp() == "" || !slices.Equal(d.GetLabelKeys()[:len(baseLabels)], baseLabels) {
			t.Errorf("descriptor %v", d)
		}
		names[d.GetName()] = true
	}
	for name := range strings.FieldsSeq(published) {
		if !names[name] {
			t.Errorf("the kubelet publishes %s", name)
		}
	}
}

func TestGroups(t *testing.T) {
	for _, m := range allMetrics {
		if m.group != "" && !slices.Contains(Groups(), m.group) {
			t.Errorf("%s is of group %q", m.name, m.group)
		}
	}
	all := 0
	for _, group := range Groups() {
		chosen := ofGroups([]string{group})
		if len(chosen) < 2 || chosen[0].name != "container_last_seen" {
			t.Errorf("group %s: %v", group, chosen)
		}
		all += len(chosen) - 1
	}
	if n := len(ofGroups([]string{AllGroups})); n != all+1 {
		t.Errorf("%d metrics in all groups, and %d together", n, all)
	}
	if n := len(ofGroups(nil)); n != 1 {
		t.Errorf("%d metrics without a group", n)
	}
}
