package kubelet

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/peers"
)

const (
	idlePods = 10
	idleTime = 5 * time.Minute
)

// BenchmarkIdle says what idle pods cost beside the kubelet: CPU time of the runtime's processes in
// percent of one core, and how their memory and the log grow; and the same of containerd. With
// probes, each pod runs a command every ten seconds.
func BenchmarkIdle(b *testing.B) {
	for _, probed := range []bool{false, true} {
		b.Run(fmt.Sprintf("stele/probes=%v", probed), func(b *testing.B) {
			h := e2e.New(b, programs.Programs, e2e.Options{})
			idle(b, h, h, probed, map[string]func() []int{
				"daemon": func() []int { return []int{h.Daemon.PID()} }, "monitor": h.MonitorPIDs,
			})
		})
		b.Run(fmt.Sprintf("containerd/probes=%v", probed), func(b *testing.B) {
			h := e2e.New(b, programs.Programs, e2e.Options{})
			containerd := peers.StartContainerd(b, h, peers.Options{})
			idle(b, h, containerd.AsHarness(b, h), probed, map[string]func() []int{
				"containerd+shims": func() []int { return containerd.PIDs(b) },
			})
		})
	}
}

// idle runs the pods on a runtime beside Stele, or on Stele itself, and measures its processes.
func idle(b *testing.B, stele, h *e2e.Harness, probed bool, of map[string]func() []int) {
	n := newNodeOn(b, h)
	of["kubelet"] = func() []int { return []int{n.kubelet.cmd.Process.Pid} }
	var pods []*pod
	for i := range idlePods {
		main := n.shell("main", "exec sleep 360000")
		if probed {
			main.LivenessProbe = often(core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"true"}}})
			main.LivenessProbe.PeriodSeconds = 10
		}
		pods = append(pods, n.runReady(manifest(fmt.Sprintf("idle-%d", i), main)))
	}
	// What follows the starts is not idleness.
	time.Sleep(time.Minute)
	for b.Loop() {
		events, log := countEvents(stele), logSize(n)
		before, from := usage(b, of), time.Now()
		time.Sleep(idleTime)
		seconds := time.Since(from).Seconds()
		for who, now := range usage(b, of) {
			b.ReportMetric(100*(now.cpu-before[who].cpu)/seconds, who+"-%core")
			b.ReportMetric(float64(now.bytes)/(1<<20), who+"-MiB")
			b.ReportMetric(float64(now.bytes-before[who].bytes)/1024, who+"-grown-KiB")
		}
		b.ReportMetric(float64(logSize(n)-log)/1024, "log-grown-KiB")
		b.ReportMetric(float64(countEvents(stele)-events), "events")
	}
	for _, p := range pods {
		p.delete()
	}
	waitNoSandboxes(n)
}

// used is what processes have used: CPU time in seconds, and their part of the memory.
type used struct {
	cpu   float64
	bytes int64
}

func usage(b *testing.B, of map[string]func() []int) map[string]used {
	b.Helper()
	all := map[string]used{}
	for who, pids := range of {
		var sum used
		for _, pid := range pids() {
			one := usedBy(b, pid)
			sum.cpu, sum.bytes = sum.cpu+one.cpu, sum.bytes+one.bytes
		}
		all[who] = sum
	}
	return all
}

func countEvents(h *e2e.Harness) int { return strings.Count(h.Stele("events", "-o", "wide"), "\n") }

// logSize is that of Stele's log, in bytes.
func logSize(n *node) (size int64) {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Root, "events.db*"))
	for _, file := range files {
		var info fs.FileInfo
		if info, err = os.Stat(file); err != nil {
			break
		}
		size += info.Size()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return size
}

func usedBy(t testing.TB, pid int) used {
	t.Helper()
	const (
		// utime is field 14 of stat, the 12th after the name; in hundredths of a second.
		utime, stime  = 11, 12
		perSecond     = 100
		afterTheName  = ") "
		bytesPerKByte = 1024
	)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), afterTheName)+len(afterTheName):]))
	var u used
	for _, field := range []int{utime, stime} {
		ticks, err := strconv.ParseFloat(fields[field], 64)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += ticks / perSecond
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rollup)) {
		if name, rest, _ := strings.Cut(line, ":"); name == "Pss" {
			kbytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			u.bytes = kbytes * bytesPerKByte
		}
	}
	return u
}
