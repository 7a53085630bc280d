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
)

const (
	idlePods = 10
	idleTime = 5 * time.Minute
)

// BenchmarkIdle says what idle pods cost beside the kubelet: CPU time of daemon and monitor in
// percent of one core, and how their memory and the log grow. With a probe, each pod runs a
// command every ten seconds.
func BenchmarkIdle(b *testing.B) {
	for name, probed := range map[string]bool{"none": false, "probes": true} {
		b.Run("probes="+name, func(b *testing.B) { idle(b, probed) })
	}
}

func idle(b *testing.B, probed bool) {
	n := newNode(b, e2e.Options{})
	for i := range idlePods {
		main := n.shell("main", "exec sleep 360000")
		if probed {
			main.LivenessProbe = often(core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"true"}}})
			main.LivenessProbe.PeriodSeconds = 10
		}
		n.runReady(manifest(fmt.Sprintf("idle-%d", i), main))
	}
	// What follows the starts is not idleness.
	time.Sleep(time.Minute)
	for b.Loop() {
		before, from := usage(n), time.Now()
		time.Sleep(idleTime)
		after, seconds := usage(n), time.Since(from).Seconds()
		for who, was := range before {
			now := after[who]
			if who == "log" {
				b.ReportMetric(float64(now.bytes-was.bytes)/1024, "log-KiB")
				continue
			}
			b.ReportMetric(100*(now.cpu-was.cpu)/seconds, who+"-%core")
			b.ReportMetric(float64(now.bytes)/(1<<20), who+"-MiB")
			b.ReportMetric(float64(now.bytes-was.bytes)/1024, who+"-grown-KiB")
		}
	}
}

// used is what a process has used: CPU time in seconds, and the memory that is its own.
type used struct {
	cpu   float64
	bytes int64
}

// usage is what daemon, monitor and kubelet have used, and the size of the log.
func usage(n *node) map[string]used {
	n.t.Helper()
	all := map[string]used{"daemon": usedBy(n.t, n.Daemon.PID()), "kubelet": usedBy(n.t, n.kubelet.cmd.Process.Pid)}
	var monitor used
	for _, pid := range n.MonitorPIDs() {
		one := usedBy(n.t, pid)
		monitor.cpu, monitor.bytes = monitor.cpu+one.cpu, monitor.bytes+one.bytes
	}
	all["monitor"] = monitor
	var log int64
	files, err := filepath.Glob(filepath.Join(n.Root, "events.db*"))
	for _, file := range files {
		var info fs.FileInfo
		if info, err = os.Stat(file); err != nil {
			break
		}
		log += info.Size()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	all["log"] = used{bytes: log}
	return all
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
