package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/syscalls"
	"github.com/stele-runtime/stele/projections"
)

// Blocked records the system calls that containers' seccomp profiles forbid, where their pods want
// to know of them, and counts them as metrics.
type Blocked struct {
	Monitor Monitor
	Actors  Actors
	Views   Views
	Logger  *slog.Logger

	mu sync.Mutex
	// last is the monitor's last word on each container.
	last map[id.Container][]container.BlockedSyscall
}

// Follow records what the monitor reports.
func (x *Blocked) Follow(ctx context.Context) {
	for report := range x.Monitor.Blocked(ctx) {
		of, calls := id.Container(report.ContainerID), byName(report)
		if before := x.note(of, calls); len(before) != len(calls) || report.Stop {
			x.Logger.Info("forbidden system calls", "container", of, "calls", container.Blocked{Calls: calls}.String(), "stop", report.Stop)
		}
		if !x.record(ctx, of, container.ReportBlocked{Calls: calls, Stop: report.Stop}) {
			return
		}
	}
}

// record retries until the report is recorded or its stream is given up: the container's end may
// depend on it, and the monitor does not repeat it. It returns false if ctx ended first.
func (x *Blocked) record(ctx context.Context, of id.Container, report container.ReportBlocked) bool {
	for failed := 0; ; {
		_, err := x.Actors.Container(ctx, of, report, nil)
		if err == nil || fault.KindOf(err) == fault.NotFound {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		x.Logger.Error("forbidden system calls not recorded", "container", of, "error", err)
		if fault.KindOf(err) != fault.Unavailable {
			if failed++; failed == recordTries {
				return true
			}
		}
		if !pause(ctx, recordRetry) {
			return false
		}
	}
}

// byName adds up calls by their names.
func byName(report monitor.Blocked) []container.BlockedSyscall {
	var calls []container.BlockedSyscall
	at := map[string]int{}
	add := func(name string, count uint64) {
		i, known := at[name]
		if !known {
			i, at[name] = len(calls), len(calls)
			calls = append(calls, container.BlockedSyscall{Name: name})
		}
		calls[i].Count += count
	}
	for _, call := range report.Calls {
		add(syscalls.Name(syscalls.Call{Arch: syscalls.Arch(call.Arch), Number: call.Number}), call.Count)
	}
	if report.Others > 0 {
		add("", report.Others)
	}
	return calls
}

// note keeps the last word on a container, and forgets containers that are gone. It returns the
// word before.
func (x *Blocked) note(of id.Container, calls []container.BlockedSyscall) (before []container.BlockedSyscall) {
	live := map[id.Container]bool{of: true}
	for _, c := range x.Views.Containers() {
		live[c.State.ID] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last == nil {
		x.last = map[id.Container][]container.BlockedSyscall{}
	}
	maps.DeleteFunc(x.last, func(known id.Container, _ []container.BlockedSyscall) bool { return !live[known] })
	before, x.last[of] = x.last[of], calls
	return before
}

// blockedCalls has CRI-O's name, under which its users know it.
var blockedCalls = prometheus.NewDesc("container_runtime_crio_containers_seccomp_notifier_count_total",
	"System calls that a container's seccomp profile forbids, since the container's creation, where its pod wants to know of them.",
	[]string{"name", "syscall"}, nil)

// Describe is part of prometheus.Collector.
func (x *Blocked) Describe(out chan<- *prometheus.Desc) { out <- blockedCalls }

// Collect is part of prometheus.Collector. A container's counts are there as long as it is.
func (x *Blocked) Collect(out chan<- prometheus.Metric) {
	pods := map[id.Sandbox]*projections.Sandbox{}
	for _, p := range x.Views.Sandboxes() {
		pods[p.State.ID] = p
	}
	type series struct{ name, call string }
	counts := map[series]uint64{}
	x.mu.Lock()
	for _, c := range x.Views.Containers() {
		for _, call := range x.last[c.State.ID] {
			// Two containers may have the same name: one whose removal fails, and the next.
			counts[series{metricName(c, pods[c.State.Sandbox]), cmp.Or(call.Name, "others")}] += call.Count
		}
	}
	x.mu.Unlock()
	for s, count := range counts {
		if metric, err := prometheus.NewConstMetric(blockedCalls, prometheus.CounterValue, float64(count), s.name, s.call); err == nil {
			out <- metric
		}
	}
}

// metricName is CRI-O's name of a container.
func metricName(c *projections.Container, p *projections.Sandbox) string {
	pod := "_"
	if p != nil {
		pod = fmt.Sprintf("%s_%s_%s", p.State.Name.Name, p.State.Name.Namespace, p.State.Name.UID)
	}
	return fmt.Sprintf("k8s_%s_%s_%d", c.State.Name.Name, pod, c.State.Name.Attempt)
}
