package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/e2e"
)

const (
	// podSize is how many containers are in a pod.
	podSize = 25
	// pssGoal is what the monitor should take at most with 500 containers, and
	// growthGoal what each container more should, both in KiB.
	pssGoal, growthGoal = 20 << 10, 20
)

// BenchmarkMemory prints what the monitor's process takes with 1, 100 and 500
// containers that have written and run on: proportional and anonymous memory
// (smaps_rollup in proc_pid_smaps(5)), and descriptors. An iteration is a list of all
// containers, so that the benchmark has one; it is not what is measured.
func BenchmarkMemory(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	var least float64
	for _, count := range []int{1, 100, 500} {
		b.Run(fmt.Sprintf("containers=%d", count), func(b *testing.B) {
			h := e2e.New(b, programs, e2e.Options{})
			runMany(b, h, count)
			for b.Loop() {
				if _, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			pids := h.MonitorPIDs()
			if len(pids) != 1 {
				b.Fatalf("the monitors are %v", pids)
			}
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pids[0]))
			if err != nil {
				b.Fatal(err)
			}
			memory := rollup(b, pids[0])
			pss := memory["Pss:"]
			b.ReportMetric(pss, "KiB-PSS")
			b.ReportMetric(memory["Pss_Anon:"], "KiB-anon")
			b.ReportMetric(float64(len(fds)), "descriptors")
			if count == 1 {
				least = pss
				return
			}
			growth := (pss - least) / float64(count-1)
			b.ReportMetric(growth, "KiB/container")
			if pss > pssGoal || growth > growthGoal {
				b.Logf("the monitor takes %.0f KiB with %d containers, %.1f KiB for each; the goals are %d and %d", pss, count, growth, pssGoal, growthGoal)
			}
		})
	}
}

// runMany runs containers, in pods of podSize, until each has written something.
func runMany(b *testing.B, h *e2e.Harness, count int) {
	b.Helper()
	var pods sync.WaitGroup
	written := make([]func() bool, count)
	for first := 0; first < count; first += podSize {
		pod := h.RunPod(h.PodConfig(fmt.Sprintf("memory%d", first)))
		pods.Go(func() {
			for i := first; i < min(first+podSize, count); i++ {
				config := h.ContainerConfig(fmt.Sprintf("c%d", i), "sh", "-c", "echo some line of output; echo a complaint >&2; exec sleep 100000")
				written[i] = func() bool { return len(pod.Log(config)) == 2 }
				id, err := pod.TryCreate(config)
				if err == nil {
					_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
				}
				if err != nil {
					b.Errorf("run container %d: %v", i, err)
					return
				}
			}
		})
	}
	pods.Wait()
	if b.Failed() {
		b.FailNow()
	}
	for i, lines := range written {
		h.Eventually(fmt.Sprintf("the lines of container %d are in its log", i), lines)
	}
}

// rollup are the values of a process's smaps_rollup, in KiB.
func rollup(b *testing.B, pid int) map[string]float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	values := map[string]float64{}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		if values[fields[0]], err = strconv.ParseFloat(fields[1], 64); err != nil {
			b.Fatalf("smaps_rollup of %d: %v: %s", pid, err, line)
		}
	}
	return values
}
