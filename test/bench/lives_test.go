package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/e2e"
)

// setting is what differs between comparisons of lives.
type setting struct {
	name string
	// tmpfs: the state directories are on one, as on nodes; otherwise on the disk.
	tmpfs bool
	// seccomp is the containers' profile. Sandboxes have RuntimeDefault, as the kubelet asks.
	seccomp runtimeapi.SecurityProfile_ProfileType
}

var settings = []setting{
	{"tmpfs-seccomp", true, runtimeapi.SecurityProfile_RuntimeDefault},
	{"tmpfs-plain", true, runtimeapi.SecurityProfile_Unconfined},
	{"disk-seccomp", false, runtimeapi.SecurityProfile_RuntimeDefault},
	{"disk-plain", false, runtimeapi.SecurityProfile_Unconfined},
}

func (s setting) String() string {
	place := "on a disk"
	if s.tmpfs {
		place = "on a tmpfs"
	}
	return fmt.Sprintf("state %s, seccomp %s", place, s.seccomp)
}

// configs are a pod and its container as a kubelet asks for them.
func (s setting) configs(h *e2e.Harness) (*runtimeapi.PodSandboxConfig, *runtimeapi.ContainerConfig) {
	pod, c := asKubelet(h.PodConfig("bench"), h.ContainerConfig("c"))
	pod.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: s.seccomp}
	return pod, c
}

// crowds are how many lives are at a time, and how many lives are a batch. A batch is long
// against its end, at which fewer and fewer are left.
var crowds = []struct{ atOnce, batch int }{{1, 5}, {8, 24}, {32, 64}}

// cpuRatioGoal is which part of containerd's CPU time a life should take at most.
const cpuRatioGoal = 0.28

// What the comparison of lives has beside the calls.
const (
	podStart, podRemoval = "pod start, ms", "pod removal, ms"
	// Containerd has its runtime create a container only when it is started.
	containerStart = "  both for the container"
	livesPerSecond = "lives per second"
	cpuPerLife     = "CPU per life, ms"
)

// compareLives takes pods through their lives, on one daemon and on the other, and prints the
// table of all crowds. An iteration is a batch of lives on each.
func compareLives(b *testing.B, peers []*peer, s setting) {
	// The first life of a daemon warms caches that stay warm.
	for _, p := range peers {
		if err := (&lives{peer: p, setting: s}).live(); err != nil {
			b.Fatalf("%s: %v", p.name, err)
		}
	}
	table := &comparison{title: s.String() + "; medians, and ratios of Stele to containerd, by lives at a time"}
	pod, c := s.configs(peers[0].h)
	alone := newBare(b, peers[0].h, peers[0].h.RunPod(pod).Run(c), peers[0].account.pods)
	for _, crowd := range crowds {
		b.Run(fmt.Sprintf("pods=%d", crowd.atOnce), func(b *testing.B) {
			all := make([]*lives, len(peers))
			for i, p := range peers {
				all[i] = &lives{peer: p, setting: s}
			}
			for b.Loop() {
				for _, l := range all {
					l.do(b, l.peer, crowd.atOnce, crowd.batch, func(int) error { return l.live() })
				}
				for i := 0; i < crowd.batch && crowd.atOnce == 1; i++ {
					if err := alone.create(); err != nil {
						b.Fatal(err)
					}
				}
			}
			column := fmt.Sprint(crowd.atOnce)
			enter(table, column, all[0], all[1])
			for row, name := range map[string]string{podStart: "start", podRemoval: "removal", livesPerSecond: "lives", cpuPerLife: "cpu"} {
				b.ReportMetric(table.ratio(row, column), name+"-ratio")
			}
			if crowd.atOnce == 1 {
				alone.over(b, createOver, s.name, milliseconds(all[0].report.medians()[createOver.call]))
			}
			if cpu := table.ratio(cpuPerLife, column); cpu > cpuRatioGoal && crowd.atOnce > 1 {
				b.Logf("a life takes %.2f of containerd's CPU time; the goal is %.2f", cpu, cpuRatioGoal)
			}
		})
	}
	table.print()
}

// enter fills a column of the table.
func enter(table *comparison, column string, ours, theirs *lives) {
	enterMedian := func(row, call string) {
		table.add(row, column, milliseconds(ours.report.medians()[call]), milliseconds(theirs.report.medians()[call]))
	}
	table.add(livesPerSecond, column, ours.perSecond(), theirs.perSecond())
	table.add(cpuPerLife, column, ours.cpuEach(), theirs.cpuEach())
	enterMedian(podStart, podStart)
	for _, call := range []string{"RunPodSandbox", "CreateContainer", "StartContainer"} {
		enterMedian("  "+call, call)
	}
	enterMedian(containerStart, containerStart)
	enterMedian(podRemoval, podRemoval)
	for _, call := range []string{"StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox"} {
		enterMedian("  "+call, call)
	}
}

// lives are those of one daemon.
type lives struct {
	*peer
	work
	setting setting
	report  report
}

// live takes a pod with a container through its life.
func (l *lives) live() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pod, c := l.setting.configs(l.h)
	one := life{h: l.h, config: pod, container: c}
	if err := one.makeLogDir(); err != nil {
		return err
	}
	start, removal := one.start(ctx), one.remove(ctx)
	return errors.Join(
		l.report.time(podStart, func() error {
			return errors.Join(l.take(start[:1]), l.report.time(containerStart, func() error { return l.take(start[1:]) }))
		}),
		l.report.time(podRemoval, func() error { return l.take(removal) }),
	)
}

// take makes the calls until one fails.
func (l *lives) take(steps []step) error {
	for _, step := range steps {
		if err := l.report.time(step.name, step.call); err != nil {
			return err
		}
	}
	return nil
}
