package monitor_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor"
)

// BenchmarkMemory prints what the monitor's process takes with 1, 100 and 500
// containers that have written and run on: proportional, resident and anonymous
// memory, and descriptors. The goals are 20 MiB in all with 500, and 20 KiB for
// each more.
func BenchmarkMemory(b *testing.B) {
	var least float64
	for _, count := range []int{1, 100, 500} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			n := newNode(b)
			for i := range count {
				n.run(container{id: fmt.Sprint("c", i), script: "echo some line of output; echo a complaint >&2; exec sleep 100000"})
			}
			pid := n.started[0]
			for b.Loop() {
				if _, err := n.client.List(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			rollup := procFile(b, pid, "smaps_rollup")
			pss := kib(b, rollup, "Pss:")
			b.ReportMetric(pss, "KiB-PSS")
			b.ReportMetric(kib(b, rollup, "Rss:"), "KiB-RSS")
			b.ReportMetric(kib(b, rollup, "Pss_Anon:"), "KiB-anon")
			b.ReportMetric(float64(descriptors(b, pid)), "descriptors")
			b.ReportMetric(0, "ns/op")
			if count == 1 {
				least = pss
			} else {
				b.ReportMetric((pss-least)/float64(count-1), "KiB/container")
			}
		})
	}
}

// BenchmarkLog prints how fast lines of 100 bytes get from a container into its
// log, and the monitor's processor time per megabyte.
func BenchmarkLog(b *testing.B) {
	n := newNode(b)
	const lines, copies = 500_000, 10
	block := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), lines)
	if err := os.WriteFile(filepath.Join(n.rootfs, "lines"), block, 0o644); err != nil {
		b.Fatal(err)
	}
	script := "cat" + strings.Repeat(" /lines", copies)
	const size = lines * copies * 100
	b.SetBytes(size)
	var used float64
	for i := 0; b.Loop(); i++ {
		before := cpuSeconds(b, n.started[0])
		id := fmt.Sprint("c", i)
		n.run(container{id: id, script: script, change: func(r *monitor.CreateRequest) {
			r.MaxLogSize = 256 << 20
		}})
		n.exits(uint64(i), id)
		used += cpuSeconds(b, n.started[0]) - before
		n.delete(id)
	}
	b.ReportMetric(used/float64(b.N)/size*1e12, "cpu-µs/MB")
}

func procFile(b *testing.B, pid int, name string) []byte {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// kib returns a value of smaps_rollup.
func kib(b *testing.B, rollup []byte, key string) float64 {
	b.Helper()
	for line := range bytes.Lines(rollup) {
		if fields := strings.Fields(string(line)); len(fields) == 3 && fields[0] == key {
			value, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return value
		}
	}
	b.Fatalf("no %s in smaps_rollup", key)
	return 0
}

// cpuSeconds returns the processor time of a process so far.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	data := procFile(b, pid, "stat")
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ticks := 0.0
	for _, field := range fields[11:13] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	const hertz = 100 // USER_HZ, on every architecture that matters
	return ticks / hertz
}
