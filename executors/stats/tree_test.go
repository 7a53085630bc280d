package stats

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// onV2 is a reader of the cgroups below a directory, as on a node of the second version.
func onV2(root string, systemd bool) *Reader {
	r := New(Config{
		Node:    &cgroups.Node{Layout: cgroups.V2, Hierarchies: []cgroups.Hierarchy{{Mountpoint: root, Unified: true}}},
		Systemd: systemd, Metrics: []string{AllGroups},
		Layer: func(string) (Layer, bool) { return Layer{}, false },
	})
	r.tree.(*v2).pageSizes = []string{"2MB"}
	return r
}

// message is what a reader says of the one container of a tree, without times.
func message(t *testing.T, r *Reader, cgroup string) *runtimeapi.ContainerStats {
	t.Helper()
	all, err := r.Containers(t.Context(), []Container{{ID: "c", Cgroup: cgroup}})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []*int64{&all[0].GetCpu().Timestamp, &all[0].GetMemory().Timestamp, &all[0].GetSwap().Timestamp, &all[0].GetIo().Timestamp} {
		if *at <= 0 {
			t.Errorf("a timestamp is %d", *at)
		}
		*at = 0
	}
	return all[0]
}

func number64(v uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: v} }

func TestV2(t *testing.T) {
	got := message(t, onV2("testdata/v2", false), "/pod/c")
	want := &runtimeapi.ContainerStats{
		Cpu: &runtimeapi.CpuUsage{
			UsageCoreNanoSeconds: number64(1_234_567_000),
			Psi: &runtimeapi.PsiStats{
				Some: &runtimeapi.PsiData{Total: 1_088_168_000, Avg10: 1.53, Avg60: 1.87, Avg300: 1.73},
				Full: &runtimeapi.PsiData{Total: 2_000_000, Avg10: 0.1, Avg60: 0.2, Avg300: 0.3},
			},
		},
		Memory: &runtimeapi.MemoryUsage{
			UsageBytes: number64(104_857_600), WorkingSetBytes: number64(73_400_320), AvailableBytes: number64(195_035_136),
			RssBytes: number64(50_331_648), PageFaults: number64(1000), MajorPageFaults: number64(12),
			Psi: &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{Total: 5000}, Full: &runtimeapi.PsiData{Total: 4000}},
		},
		Swap: &runtimeapi.SwapUsage{SwapUsageBytes: number64(4096), SwapAvailableBytes: number64(1_044_480)},
		Io:   &runtimeapi.IoUsage{Psi: &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{Total: 9_000_000_000}, Full: &runtimeapi.PsiData{Total: 3000}}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(want))
	}
}

func TestV2Metrics(t *testing.T) {
	r := onV2("testdata/v2", false)
	answer, err := r.PodMetrics(t.Context(), []Pod{{ID: "p", Cgroup: "/pod", Name: "web", Namespace: "shop", Containers: []Container{
		{ID: "c", Cgroup: "/pod/c", Name: "nginx", Image: "nginx:1", Limits: &runtimeapi.LinuxContainerResources{CpuQuota: 50_000, MemoryLimitInBytes: -1}},
		{ID: "gone", Cgroup: "/pod/gone"},
	}}})
	if err != nil || len(answer) != 1 || len(answer[0].GetContainerMetrics()) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	got := map[string]uint64{}
	for _, m := range answer[0].GetContainerMetrics()[0].GetMetrics() {
		base := strings.Join(m.GetLabelValues()[:len(baseLabels)], " ")
		if base != "/pod/c c nginx:1 shop web nginx" {
			t.Errorf("labels of %s: %s", m.GetName(), base)
		}
		got[strings.TrimSpace(m.GetName()+" "+strings.Join(m.GetLabelValues()[len(baseLabels):], " "))] = m.GetValue().GetValue()
	}
	for name, want := range map[string]uint64{
		"container_cpu_usage_seconds_total total":                                       1,
		"container_cpu_user_seconds_total":                                              1,
		"container_cpu_cfs_periods_total":                                               100,
		"container_cpu_cfs_throttled_periods_total":                                     7,
		"container_cpu_cfs_throttled_seconds_total":                                     5,
		"container_memory_cache":                                                        41_943_040,
		"container_memory_kernel_usage":                                                 1_048_576,
		"container_memory_max_usage_bytes":                                              120_000_000,
		"container_memory_events_high_total":                                            2,
		"container_memory_events_max_total":                                             3,
		"container_memory_failcnt":                                                      3,
		"container_memory_failures_total pgfault container":                             1000,
		"container_memory_swap":                                                         4096,
		"container_oom_events_total":                                                    1,
		"container_threads":                                                             5,
		"container_threads_max":                                                         0,
		"container_spec_cpu_quota":                                                      50_000,
		"container_spec_memory_limit_bytes":                                             0,
		"container_hugetlb_usage_bytes 2MB":                                             2_097_152,
		"container_pressure_io_waiting_seconds_total":                                   9,
		"container_fs_reads_bytes_total " + r.devices.name(253, 0):                      1_048_576,
		"container_fs_writes_total " + r.devices.name(253, 0):                           2,
		"container_blkio_device_usage_total " + r.devices.name(253, 0) + " 253 0 Write": 8192,
	} {
		if value, is := got[name]; !is || value != want {
			t.Errorf("%s is %d, %v; want %d", name, value, is, want)
		}
	}
}

// critest expects a value of every descriptor, whatever the kernel counts.
func TestOldKernelHasEveryMetricOfCPUAndMemory(t *testing.T) {
	root := t.TempDir()
	files(t, filepath.Join(root, "c"), map[string]string{"cpu.stat": "usage_usec 1\n", "memory.current": "1\n"})
	r := onV2(root, false)
	answer, err := r.PodMetrics(t.Context(), []Pod{{Containers: []Container{{Cgroup: "/c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range answer[0].GetContainerMetrics()[0].GetMetrics() {
		got[m.GetName()] = true
	}
	for _, m := range ofGroups([]string{"cpu", "memory"}) {
		if !got[m.name] && m.name != "container_memory_failures_total" {
			t.Errorf("no value of %s", m.name)
		}
	}
	// What is of no cgroup has none.
	pod, err := r.PodMetrics(t.Context(), []Pod{{Network: "/none"}})
	if err != nil || len(pod[0].GetMetrics()) != 0 {
		t.Errorf("%v, %v", pod, err)
	}
}

// crun puts a container and its limits into a cgroup below systemd's scope.
func TestV2LimitsBelowTheScope(t *testing.T) {
	root := t.TempDir()
	files(t, filepath.Join(root, "scope"), map[string]string{"memory.current": "100", "memory.max": "max", "cpu.stat": "usage_usec 1"})
	files(t, filepath.Join(root, "scope", "container"), map[string]string{"memory.max": "1000"})
	for systemd, want := range map[bool]uint64{true: 900, false: 0} {
		all, err := onV2(root, systemd).Containers(t.Context(), []Container{{Cgroup: "/scope"}})
		if err != nil || all[0].GetMemory().GetAvailableBytes().GetValue() != want {
			t.Errorf("systemd %v: %v, %v", systemd, all[0].GetMemory(), err)
		}
	}
}

func files(t testing.TB, dir string, contents map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func onV1(root string) *Reader {
	node := &cgroups.Node{Layout: cgroups.Hybrid, Hierarchies: []cgroups.Hierarchy{{Mountpoint: filepath.Join(root, "unified"), Unified: true}}}
	for _, controllers := range [][]string{{"cpu", "cpuacct"}, {"memory"}, {"pids"}, {"blkio"}, {"hugetlb"}} {
		node.Hierarchies = append(node.Hierarchies, cgroups.Hierarchy{Mountpoint: filepath.Join(root, strings.Join(controllers, ",")), Controllers: controllers})
	}
	r := New(Config{Node: node, Metrics: []string{AllGroups}, Layer: func(string) (Layer, bool) { return Layer{}, false }})
	r.tree.(*v1).pageSizes = []string{"1GB"}
	return r
}

// v1Tree has the container /c.
func v1Tree(t *testing.T) string {
	root := t.TempDir()
	files(t, root+"/cpu,cpuacct/c", map[string]string{
		"cpuacct.usage": "5000000000\n", "cpuacct.usage_user": "3000000000\n", "cpuacct.usage_sys": "2000000000\n",
		"cpu.stat": "nr_periods 10\nnr_throttled 2\nthrottled_time 3000000000\n",
	})
	files(t, root+"/memory/c", map[string]string{
		"memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": "4000\n", "memory.memsw.limit_in_bytes": "6000\n",
		"memory.max_usage_in_bytes": "2000\n", "memory.failcnt": "4\n", "memory.kmem.usage_in_bytes": "50\n",
		"memory.stat":        "cache 1\nrss 2\npgfault 7\ninactive_file 5\nhierarchical_memory_limit 3500\ntotal_cache 500\ntotal_rss 300\ntotal_mapped_file 20\ntotal_pgfault 70\ntotal_pgmajfault 8\ntotal_inactive_file 400\ntotal_active_file 100\ntotal_swap 30\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	})
	files(t, root+"/pids/c", map[string]string{"pids.current": "3\n", "pids.max": "100\n", "cgroup.procs": ""})
	files(t, root+"/blkio/c", map[string]string{
		"blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 4106\n8:0 Total 4106\nTotal 4106\n",
		"blkio.throttle.io_serviced_recursive":      "8:0 Read 2\n8:0 Write 1\nTotal 3\n",
	})
	files(t, root+"/hugetlb/c", map[string]string{"hugetlb.1GB.usage_in_bytes": "1073741824", "hugetlb.1GB.max_usage_in_bytes": "2147483648"})
	files(t, root+"/unified/c", map[string]string{"cpu.pressure": "some avg10=2.00 avg60=0.00 avg300=0.00 total=7\n", "memory.pressure": "", "io.pressure": "garbage"})
	return root
}

func TestV1(t *testing.T) {
	root := v1Tree(t)
	all, err := onV1(root).Containers(t.Context(), []Container{{Cgroup: "/c"}})
	if err != nil {
		t.Fatal(err)
	}
	got := all[0]
	got.Cpu.Timestamp, got.Memory.Timestamp, got.Swap.Timestamp = 0, 0, 0
	want := &runtimeapi.ContainerStats{
		Cpu: &runtimeapi.CpuUsage{UsageCoreNanoSeconds: number64(5_000_000_000), Psi: &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{Total: 7000, Avg10: 2}}},
		Memory: &runtimeapi.MemoryUsage{
			UsageBytes: number64(1000), WorkingSetBytes: number64(600), AvailableBytes: number64(3400),
			RssBytes: number64(300), PageFaults: number64(70), MajorPageFaults: number64(8),
		},
		Swap: &runtimeapi.SwapUsage{SwapUsageBytes: number64(30), SwapAvailableBytes: number64(1970)},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(want))
	}
}

// A limit above the container is not the container's.
func TestV1LimitAbove(t *testing.T) {
	root := v1Tree(t)
	files(t, root+"/memory/c", map[string]string{"memory.limit_in_bytes": "9223372036854771712\n"})
	all, err := onV1(root).Containers(t.Context(), []Container{{Cgroup: "/c"}})
	if err != nil || all[0].GetMemory().GetAvailableBytes() != nil || all[0].GetSwap().GetSwapAvailableBytes() != nil {
		t.Errorf("%v, %v", all, err)
	}
}

func TestV1Metrics(t *testing.T) {
	answer, err := onV1(v1Tree(t)).PodMetrics(t.Context(), []Pod{{Containers: []Container{{Cgroup: "/c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, m := range answer[0].GetContainerMetrics()[0].GetMetrics() {
		got[m.GetName()] += m.GetValue().GetValue()
	}
	for name, want := range map[string]uint64{
		"container_cpu_user_seconds_total": 3, "container_cpu_cfs_throttled_seconds_total": 3, "container_memory_failcnt": 4,
		"container_memory_failures_total": 7 + 70 + 8, "container_oom_events_total": 2, "container_threads_max": 100,
		"container_fs_reads_total": 2, "container_fs_reads_bytes_total": 4096, "container_blkio_device_usage_total": 4096 + 10 + 4106 + 4106,
		"container_hugetlb_max_usage_bytes": 2 << 30, "container_memory_events_high_total": 0, "container_memory_max_usage_bytes": 2000,
	} {
		if value, is := got[name]; !is || value != want {
			t.Errorf("%s is %d, %v; want %d", name, value, is, want)
		}
	}
}

// No content of a file is an error or a panic, and what makes no sense is left out.
func TestHostileFiles(t *testing.T) {
	names, err := os.ReadDir("testdata/v2/pod/c")
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string]string{
		"nothing": "", "max": "max\n", "negative": "-1\n", "too large": "18446744073709551616\n", "the largest": "18446744073709551615\n",
		"keys alone": "usage_usec\nanon\ninactive_file \n", "no keys": " 1\n 2\n", "bytes": "\x00\xff\xfe usage_usec \n", "words": "usage_usec many\n",
		"long line":      strings.Repeat("a", 1<<20),
		"huge figures":   "usage_usec 18446744073709551615\nanon 18446744073709551615\ninactive_file 18446744073709551615\noom_kill 18446744073709551615\n",
		"pressure":       "some avg10=NaN avg60=+Inf avg300=-1e309 total=18446744073709551615\nfull\nfull total=\nsome\n",
		"disks":          strings.Repeat("8:0 rbytes=1 wbytes=x =\n", 100) + "8:99999999999999999999 rbytes=1\n::: rbytes=1\n\n",
		"many disks":     manyDisks(10_000),
		"many processes": strings.Repeat("1\n", 1<<20),
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			contents := map[string]string{"cgroup.procs": content}
			for _, n := range names {
				contents[n.Name()] = content
			}
			files(t, filepath.Join(root, "c"), contents)
			r := onV2(root, true)
			pods := []Pod{{Cgroup: "/c", Network: filepath.Join(root, "c", "cpu.stat"), Containers: []Container{{Cgroup: "/c"}}}}
			for range 2 {
				if _, err := r.Pods(t.Context(), pods); err != nil {
					t.Error(err)
				}
				answer, err := r.PodMetrics(t.Context(), pods)
				if err != nil {
					t.Error(err)
				}
				if _, err := proto.Marshal(answer[0]); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func manyDisks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "8:%d rbytes=1\n", i)
	}
	return b.String()
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]number{
		"0": known(0), " 7\n": known(7), "max": known(math.MaxUint64), "18446744073709551615": known(math.MaxUint64),
		"": {}, "-1": {}, "1.5": {}, "0x1": {}, "18446744073709551616": {}, "1 2": {}, "MAX": {},
	} {
		if got := parse([]byte(text)); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	if got := known(math.MaxUint64 / 2).scaled(1000); got != known(math.MaxUint64) {
		t.Errorf("a product overflows to %v", got)
	}
	if got := known(3).minus(known(5)); got != known(0) {
		t.Errorf("3-5 is %v", got)
	}
	if got := (basicMemory{usage: known(10)}).workingSet(); got != known(10) {
		t.Errorf("without a figure of inactive files the working set is %v", got)
	}
}

// What is not there is left out, and nothing else is disturbed by it.
func TestMissing(t *testing.T) {
	r := onV2("testdata/v2", false)
	all, err := r.Containers(t.Context(), []Container{{Cgroup: "/pod/none"}, {Cgroup: ""}, {Cgroup: "/pod/c"}, {Cgroup: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, false} {
		if (all[i].GetCpu() != nil) != want || (all[i].GetMemory() != nil) != want {
			t.Errorf("%d: %v", i, all[i])
		}
	}
	// A cgroup that is not known is not the root.
	root, err := onV2("testdata/v2/pod/c", false).Containers(t.Context(), []Container{{Cgroup: ""}})
	if err != nil || root[0].GetCpu() != nil {
		t.Errorf("%v, %v", root, err)
	}
	pods, err := r.Pods(t.Context(), []Pod{{}, {Cgroup: "/none", Network: "/none"}, {Cgroup: "/pod/c", Network: "testdata"}})
	if err != nil {
		t.Fatal(err)
	}
	if pods[0].GetCpu() != nil || pods[1].GetCpu() != nil || pods[2].GetCpu() == nil || pods[2].GetNetwork() != nil {
		t.Errorf("pods: %v", pods)
	}
}

func TestWritableLayer(t *testing.T) {
	r := onV2("testdata/v2", false)
	at := time.Unix(1000, 0)
	r.Layer = func(id string) (Layer, bool) {
		return Layer{Path: t.TempDir(), Bytes: 4096, Inodes: 3, At: at}, id == "c"
	}
	all, err := r.Containers(t.Context(), []Container{{ID: "c"}, {ID: "new"}})
	if err != nil {
		t.Fatal(err)
	}
	layer := all[0].GetWritableLayer()
	if layer.GetTimestamp() != at.UnixNano() || layer.GetUsedBytes().GetValue() != 4096 || layer.GetInodesUsed().GetValue() != 3 || layer.GetFsId().GetMountpoint() == "" {
		t.Errorf("writable layer: %v", layer)
	}
	if all[1].GetWritableLayer() != nil {
		t.Errorf("a layer that was not measured: %v", all[1])
	}
	answer, err := r.PodMetrics(t.Context(), []Pod{{Containers: []Container{{ID: "c", Cgroup: "/pod/c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range answer[0].GetContainerMetrics()[0].GetMetrics() {
		// "Timestamp should be 0 if the metric was gathered live."
		want := int64(0)
		if m.GetName() == usageOfLayer {
			want = at.UnixNano()
		}
		if m.GetTimestamp() != want {
			t.Errorf("%s has the time %d", m.GetName(), m.GetTimestamp())
		}
	}
}
