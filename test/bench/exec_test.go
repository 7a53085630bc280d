package bench

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// probed are the containers that are probed, each in a pod of its own.
	probed = 8
	// probes are how many are a batch.
	probes = 24

	execSync        = "ExecSync, ms"
	probesPerSecond = "probes per second"
	cpuPerProbe     = "CPU per probe, ms"
	logPerProbe     = "bytes of log per probe"
)

// probe is a command as a kubelet's probe has it.
var probe = []string{"cat", "/etc/hostname"}

// compareExecs probes containers on both, and prints the table. An iteration is a batch of probes
// on each. One at a time, the runtime does the same alone.
func compareExecs(b *testing.B, peers []*peer) {
	table := &comparison{title: "ExecSync, state on a tmpfs; medians, and ratios of Stele to containerd, by profile and probes at a time"}
	for _, profile := range []struct {
		name    string
		seccomp runtimeapi.SecurityProfile_ProfileType
	}{{"plain", runtimeapi.SecurityProfile_Unconfined}, {"seccomp", runtimeapi.SecurityProfile_RuntimeDefault}} {
		b.Run(profile.name, func(b *testing.B) {
			contenders := make([]*prober, len(peers))
			for i, p := range peers {
				contenders[i] = newProber(b, p, profile.seccomp)
			}
			alone := newBare(b, peers[0].h, contenders[0].containers[0], peers[0].account.pods)
			for _, atOnce := range []int{1, probed} {
				b.Run(fmt.Sprintf("probes=%d", atOnce), func(b *testing.B) {
					for _, c := range contenders {
						c.restart()
					}
					for b.Loop() {
						for _, c := range contenders {
							c.batch(b, atOnce)
						}
						for i := 0; i < probes && atOnce == 1; i++ {
							if err := alone.exec(); err != nil {
								b.Fatal(err)
							}
						}
					}
					column := fmt.Sprintf("%s %d", profile.name, atOnce)
					ours, theirs := contenders[0], contenders[1]
					table.add(execSync, column, ours.median(), theirs.median())
					table.add(probesPerSecond, column, ours.perSecond(), theirs.perSecond())
					table.add(cpuPerProbe, column, ours.cpuEach(), theirs.cpuEach())
					table.add(logPerProbe, column, ours.logEach(), theirs.logEach())
					b.ReportMetric(table.ratio(execSync, column), "exec-ratio")
					b.ReportMetric(table.ratio(cpuPerProbe, column), "cpu-ratio")
					if atOnce == 1 {
						alone.over(b, execOver, profile.name, ours.median())
					}
				})
			}
		})
	}
	table.print()
}

// prober probes the containers of one daemon.
type prober struct {
	*peer
	work
	containers []string
	report     report
	// logged are the bytes of each batch. The keeper may remove records in one of them.
	logged []int64
}

// newProber runs containers that can be probed.
func newProber(b *testing.B, p *peer, seccomp runtimeapi.SecurityProfile_ProfileType) *prober {
	b.Helper()
	r := &prober{peer: p}
	h := p.h
	for i := range probed {
		pod, c := asKubelet(h.PodConfig(fmt.Sprintf("probed%d", i)), h.ContainerConfig("c"))
		c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: seccomp}
		r.containers = append(r.containers, h.RunPod(pod).Run(c))
	}
	return r
}

// restart forgets what was measured.
func (r *prober) restart() { r.work, r.report, r.logged = work{}, report{}, nil }

func (r *prober) batch(b *testing.B, atOnce int) {
	b.Helper()
	before := r.inLog(b)
	r.do(b, r.peer, atOnce, probes, func(i int) error {
		return r.report.time(execSync, func() error { return r.probe(r.containers[i%len(r.containers)]) })
	})
	r.logged = append(r.logged, r.inLog(b)-before)
}

// probe probes a container as the kubelet does.
func (r *prober) probe(container string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := r.h.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: container, Cmd: probe, Timeout: int64(patience / time.Second)})
	if err == nil && (answer.ExitCode != 0 || len(answer.Stdout) == 0) {
		err = fmt.Errorf("%q ended with %d: %s", probe, answer.ExitCode, answer.Stderr)
	}
	return err
}

// inLog is how many bytes of records are in the daemon's event log. Containerd has none.
func (r *prober) inLog(b *testing.B) int64 {
	b.Helper()
	if r.h.Daemon == nil {
		return 0
	}
	return logStats(b, r.h).bytes
}

func (r *prober) median() float64 { return milliseconds(r.report.medians()[execSync]) }

func (r *prober) logEach() float64 { return float64(median(r.logged)) / probes }

// print prints a table that is not empty. Not by b.Log: it is for everybody, not only for failures.
func (c *comparison) print() {
	if len(c.rows) > 0 {
		fmt.Fprint(os.Stdout, "\n"+c.String()+"\n")
	}
}
