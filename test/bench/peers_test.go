package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	clientspdy "k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/peers"
)

const (
	// peerPods are on each daemon, with a container each.
	peerPods = 50
	// forwarded is how many bytes come through a port-forward at a time.
	forwarded = 64 << 20
	// forwardedPort is where a pod serves them.
	forwardedPort = 7001
)

// peer is a daemon with its pods.
type peer struct {
	name string
	h    *e2e.Harness
	// account counts the CPU time of all that it causes.
	account *account
	// pids are its processes now, without those of its pods.
	pids func() []int
	// server is the pod that serves bytes.
	server string
	report *report
}

// BenchmarkPeers has Stele and containerd do the same, in turn, in one run: the same client makes
// the same calls, both have the same runtime, the same CNI plugins and a network of the same
// kind, with masquerade and host ports, and their state where the setting says. The tables have
// Stele's figures divided by containerd's first.
//
// lives takes pods through their lives, exec probes containers, crowd asks both about 50 pods that run: for their stats
// and for bytes through Kubernetes' own port-forward.
func BenchmarkPeers(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("lives", func(b *testing.B) {
		for _, s := range settings {
			b.Run(s.name, func(b *testing.B) { compareLives(b, startPeers(b, programs, s.tmpfs), s) })
		}
	})
	b.Run("exec", func(b *testing.B) { compareExecs(b, startPeers(b, programs, true)) })
	b.Run("crowd", func(b *testing.B) { compareCrowds(b, startPeers(b, programs, true)) })
}

// startPeers starts both daemons: Stele is the first.
func startPeers(b *testing.B, programs *e2e.Programs, tmpfs bool) []*peer {
	b.Helper()
	states := stateIn(b, tmpfs)
	ours, theirs := openAccount(b), openAccount(b)
	h := e2e.New(b, programs, e2e.Options{StateIn: states})
	h.CgroupParent, h.Scope.Cgroups = ours.pods, []string{ours.pods}
	replaceNetwork(b, h, peers.Network(h.Bridge, h.Scope.IPAM[0], fmt.Sprintf("10.%d.0.0/20", 100+h.Number%100)))
	containerd := peers.StartContainerd(b, h, peers.Options{StateIn: states, CgroupParent: theirs.pods})
	both := []*peer{
		{name: "stele", h: h, account: ours, pids: func() []int { return append(h.MonitorPIDs(), h.Daemon.PID()) }},
		{name: "containerd", h: containerd.AsHarness(b, h), account: theirs, pids: func() []int { return containerd.PIDs(b) }},
	}
	for _, p := range both {
		p.account.add(b, p.pids()...)
		p.report = &report{}
	}
	return both
}

// compareCrowds runs pods on both and asks about them.
func compareCrowds(b *testing.B, peers []*peer) {
	for _, p := range peers {
		p.run(b)
	}
	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			for _, p := range peers {
				if err := p.askForStats(b.Context()); err != nil {
					b.Fatalf("%s: %v", p.name, err)
				}
			}
		}
		compare(b, peers, "ListContainerStats", "ListPodSandboxStats")
	})
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			for _, p := range peers {
				if err := p.forward(b); err != nil {
					b.Fatalf("%s: %v", p.name, err)
				}
			}
		}
		compare(b, peers, portForward)
	})
}

// portForward is what the report calls the bytes through one.
const portForward = "PortForward of 64 MiB"

// compare reports the medians of calls; first how Stele's figure is to containerd's.
func compare(b *testing.B, peers []*peer, calls ...string) {
	b.Helper()
	fmt.Fprintf(os.Stdout, "\n%-24s%14s%14s%14s\n", "median", "ratio", peers[0].name, peers[1].name)
	for _, call := range calls {
		ours, theirs := peers[0].report.medians()[call], peers[1].report.medians()[call]
		if call == portForward {
			// A figure of which more is better.
			fmt.Fprintf(os.Stdout, "%-24s%14.2f%9.0f MB/s%9.0f MB/s\n", call, float64(theirs)/float64(ours), speed(ours), speed(theirs))
			b.ReportMetric(speed(ours), "stele-MB/s")
			b.ReportMetric(speed(theirs), "containerd-MB/s")
			continue
		}
		fmt.Fprintf(os.Stdout, "%-24s%14.2f%11.2f ms%11.2f ms\n", call, float64(ours)/float64(theirs), milliseconds(ours), milliseconds(theirs))
		b.ReportMetric(milliseconds(ours), "stele-"+call+"-ms")
		b.ReportMetric(milliseconds(theirs), "containerd-"+call+"-ms")
	}
}

// speed is megabytes in a second.
func speed(took time.Duration) float64 { return forwarded / 1e6 / took.Seconds() }

// run starts the pods, each with a cgroup parent of its own, as the kubelet has them. They
// are removed at the benchmark's end.
func (p *peer) run(b *testing.B) {
	b.Helper()
	scope := audit.Scope{}
	b.Cleanup(func() {
		audit.Check(b, scope, nil)
		// The parents, which the kubelet would remove.
		if err := audit.Clear(scope); err != nil {
			b.Error(err)
		}
	})
	for i := range peerPods {
		config := p.h.PodConfig(fmt.Sprintf("pod%d", i))
		config.Linux.CgroupParent = path.Join(p.h.CgroupParent, config.Metadata.Name)
		scope.Cgroups = append(scope.Cgroups, config.Linux.CgroupParent)
		pod := p.h.RunPod(config)
		if i > 0 {
			pod.Run(p.h.ContainerConfig("c"))
			continue
		}
		p.server = pod.ID
		pod.Run(p.h.ContainerConfig("c", "sh", "-c", fmt.Sprintf(
			"head -c %d /dev/zero >/tmp/zeros && exec httpd -f -p 127.0.0.1:%d -h /tmp", forwarded, forwardedPort)))
	}
	p.h.Eventually(p.name+"'s pod serves", func() bool { return p.forward(b) == nil })
	p.report = &report{} // without the first time, which warmed caches
}

func (p *peer) askForStats(ctx context.Context) error {
	return errors.Join(
		p.report.time("ListContainerStats", func() error {
			answer, err := p.h.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
			if err == nil && (len(answer.GetStats()) != peerPods || answer.GetStats()[peerPods-1].GetMemory().GetUsageBytes() == nil) {
				err = fmt.Errorf("%d answers: %v", len(answer.GetStats()), answer)
			}
			return err
		}),
		p.report.time("ListPodSandboxStats", func() error {
			answer, err := p.h.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
			if err == nil && (len(answer.GetStats()) != peerPods || len(answer.GetStats()[peerPods-1].GetLinux().GetContainers()) != 1 ||
				answer.GetStats()[peerPods-1].GetLinux().GetNetwork().GetDefaultInterface().GetName() != "eth0") {
				err = fmt.Errorf("%d answers: %v", len(answer.GetStats()), answer)
			}
			return err
		}),
	)
}

// forward fetches the bytes through a new port-forward, which is not part of the time.
func (p *peer) forward(b *testing.B) error {
	b.Helper()
	address, end := forwardPort(b, p.h, p.server)
	defer end()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	return p.report.time(portForward, func() error {
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
