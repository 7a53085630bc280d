package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	clientspdy "k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
	"github.com/stele-runtime/stele/test/e2e"
)

const (
	// forwarded is how many bytes come through a port-forward at a time.
	forwarded = 64 << 20
	// forwardedPort is where a pod serves them.
	forwardedPort = 7001
	// grownAtOnce is how many pods are started and removed at a time.
	grownAtOnce = 8

	portForward = "PortForward of 64 MiB, ms"
	pssInAll    = "PSS in all, MiB"
	pssPerPod   = "PSS per pod, KiB"
)

// crowd are the pods that run on a daemon, with a container each.
type crowd struct {
	*peer
	pods []string
	// server is the pod that serves bytes.
	server string
	// idle is the memory without pods, in KiB, as is now with those that run.
	idle, now float64
	report    report
}

// compareCrowds runs more and more pods on both, up to most on containerd, and asks about them.
func compareCrowds(b *testing.B, peers []*peer, most int) {
	crowds := make([]*crowd, len(peers))
	for i, p := range peers {
		crowds[i] = newCrowd(b, p)
		defer listEverySecond(b, p.h)()
	}
	rest := func() {
		settleAll(func() (all []float64) {
			for _, c := range crowds {
				all = append(all, c.pss(b))
			}
			return all
		})
		for _, c := range crowds {
			c.now = c.pss(b)
		}
	}
	rest()
	for _, c := range crowds {
		c.idle = c.now
	}
	table := &comparison{title: "pods that run, state on a tmpfs; medians, and ratios of Stele to containerd, by pods"}
	for _, count := range []int{50, 150, 500} {
		b.Run(fmt.Sprintf("pods=%d", count), func(b *testing.B) {
			crowds := crowds
			if count > most {
				crowds = crowds[:1]
			}
			for _, c := range crowds {
				c.growTo(b, count)
			}
			rest()
			for b.Loop() {
				for _, c := range crowds {
					if err := c.ask(b, count); err != nil {
						b.Fatalf("%s: %v", c.name, err)
					}
				}
			}
			column := fmt.Sprint(count)
			add := func(row string, figure func(*crowd) float64) {
				theirs := math.NaN()
				if len(crowds) > 1 {
					theirs = figure(crowds[1])
				}
				table.add(row, column, figure(crowds[0]), theirs)
			}
			add(pssInAll, func(c *crowd) float64 { return c.now / 1024 })
			add(pssPerPod, (*crowd).perPod)
			for _, call := range crowds[0].report.order {
				add(call, func(c *crowd) float64 { return milliseconds(c.report.medians()[call]) })
			}
			b.ReportMetric(table.ratio(pssPerPod, column), "memory-ratio")
			for _, c := range crowds {
				c.report = report{}
			}
		})
	}
	table.print()
}

// newCrowd has no pods yet. They go at the benchmark's end.
func newCrowd(b *testing.B, p *peer) *crowd {
	b.Helper()
	c := &crowd{peer: p}
	if p.abandon != nil {
		p.abandon()
		return c
	}
	b.Cleanup(func() {
		var w work
		w.do(b, p, grownAtOnce, len(c.pods), func(i int) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := p.h.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: c.pods[i]})
			if err == nil {
				_, err = p.h.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: c.pods[i]})
			}
			return err
		})
		// The parents of their cgroups, which the kubelet would remove.
		if err := audit.Clear(audit.Scope{Cgroups: []string{p.account.pods}}); err != nil {
			b.Error(err)
		}
	})
	return c
}

// growTo starts pods until there are that many, each with a cgroup parent of its own, as the kubelet
// has them.
func (c *crowd) growTo(b *testing.B, count int) {
	b.Helper()
	first := len(c.pods)
	c.pods = append(c.pods, make([]string, count-first)...)
	var w work
	w.do(b, c.peer, grownAtOnce, count-first, func(i int) (err error) {
		i += first
		c.pods[i], err = c.run(i)
		return err
	})
	fmt.Fprintf(os.Stdout, "%s starts %d pods in %.1f s, %d at a time\n", c.name, count-first, w.elapsed.Seconds(), grownAtOnce)
	if c.server == "" {
		c.server = c.pods[0]
		c.h.Eventually(c.name+"'s pod serves", func() bool { return c.forward(b) == nil })
		c.report = report{} // without the first time, which warmed caches
	}
}

// run runs a pod; the first one serves bytes.
func (c *crowd) run(i int) (pod string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	one := life{h: c.h}
	one.config, one.container = asKubelet(c.h.PodConfig(fmt.Sprintf("pod%d", i)), c.h.ContainerConfig("c"))
	one.config.Linux.CgroupParent = path.Join(c.h.CgroupParent, one.config.Metadata.Name)
	if i == 0 {
		one.container.Command = []string{"sh", "-c", fmt.Sprintf(
			"head -c %d /dev/zero >/tmp/zeros && exec httpd -f -p 127.0.0.1:%d -h /tmp", forwarded, forwardedPort)}
	}
	err = one.makeLogDir()
	for _, step := range one.start(ctx) {
		if err == nil {
			err = step.call()
		}
	}
	return one.pod, err
}

// pss is the proportional memory of the daemon and its monitor or shims, in KiB.
func (c *crowd) pss(b *testing.B) (sum float64) {
	b.Helper()
	for _, pid := range c.pids() {
		sum += rollup(b, pid)["Pss:"]
	}
	return sum
}

func (c *crowd) perPod() float64 { return (c.now - c.idle) / float64(len(c.pods)) }

// ask makes the calls that are compared.
func (c *crowd) ask(b *testing.B, count int) error {
	b.Helper()
	ctx := b.Context()
	return errors.Join(
		c.report.time("ListPodSandbox, ms", func() error {
			answer, err := c.h.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
			return listed(len(answer.GetItems()), count, err)
		}),
		c.report.time("ListContainers, ms", func() error {
			answer, err := c.h.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
			return listed(len(answer.GetContainers()), count, err)
		}),
		c.report.time("ListContainerStats, ms", func() error {
			answer, err := c.h.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
			if err == nil && answer.GetStats()[len(answer.GetStats())-1].GetMemory().GetUsageBytes() == nil {
				err = fmt.Errorf("no memory: %v", answer)
			}
			return listed(len(answer.GetStats()), count, err)
		}),
		c.report.time("ListPodSandboxStats, ms", func() error {
			answer, err := c.h.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
			if err == nil {
				last := answer.GetStats()[len(answer.GetStats())-1].GetLinux()
				if len(last.GetContainers()) != 1 || last.GetNetwork().GetDefaultInterface().GetName() != "eth0" {
					err = fmt.Errorf("the last one is %v", last)
				}
			}
			return listed(len(answer.GetStats()), count, err)
		}),
		c.forward(b),
	)
}

// listed says what is wrong with a list.
func listed(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d are listed, %d run", got, want)
	}
	return err
}

// forward fetches the bytes through a new port-forward, which is not part of the time.
func (c *crowd) forward(b *testing.B) error {
	b.Helper()
	address, end := forwardPort(b, c.h, c.server)
	defer end()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	return c.report.time(portForward, func() error {
		answer, err := client.Get("http://" + address + "/zeros")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		n, err := io.Copy(io.Discard, answer.Body)
		if err == nil && n != forwarded {
			err = fmt.Errorf("%d bytes: %s", n, answer.Status)
		}
		return err
	})
}

// forwardPort forwards the port of a pod with Kubernetes' own client.
func forwardPort(b *testing.B, h *e2e.Harness, pod string) (address string, end func()) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	answer, err := h.Runtime.PortForward(ctx, &runtimeapi.PortForwardRequest{PodSandboxId: pod, Port: []int32{forwardedPort}})
	if err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(answer.Url)
	if err != nil {
		b.Fatal(err)
	}
	transport, upgrader, err := clientspdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		b.Fatal(err)
	}
	dialer := clientspdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewForStreaming(dialer, []string{fmt.Sprintf("0:%d", forwardedPort)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		b.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), func() {
		close(stop)
		<-ended
	}
}
