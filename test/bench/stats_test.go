package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	"github.com/stele-runtime/stele/executors/cgroups"
	figures "github.com/stele-runtime/stele/executors/stats"
	"github.com/stele-runtime/stele/projections"
)

// statsGoals are how long ListContainerStats and ListPodSandboxStats should take at most in
// the middle, by the number of pods, each with one container.
var statsGoals = map[int][2]time.Duration{
	50:  {5 * time.Millisecond, 8 * time.Millisecond},
	500: {50 * time.Millisecond, 50 * time.Millisecond},
}

// asleep is for how long pods are idle before they are asked for the second time: about
// as long as between two questions of a kubelet, and longer than the kernel takes to
// average what was waited.
const asleep = 5 * time.Second

// BenchmarkStats asks for the stats and metrics of many pods over a socket. The cgroups
// and network namespaces are real, with a process in each container's cgroup and a veth in
// each namespace; the pods and containers exist only in the log. An iteration asks once for
// each list. The processes sleep, but for the awake ones, all of which run before each
// iteration.
func BenchmarkStats(b *testing.B) {
	for _, pods := range []int{50, 500} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) { benchmarkStats(b, pods, false) })
		b.Run(fmt.Sprintf("pods=%d,awake", pods), func(b *testing.B) { benchmarkStats(b, pods, true) })
	}
}

func benchmarkStats(b *testing.B, pods int, awake bool) {
	c := newCounted(b, pods)
	client := c.serve(b)
	if err := askForStats(b, client, &report{}, pods); err != nil {
		b.Fatal(err)
	}
	time.Sleep(asleep)
	r := &report{}
	for b.Loop() {
		if awake {
			c.wake(b)
		}
		if err := askForStats(b, client, r, pods); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	metrics, err := client.ListPodSandboxMetrics(b.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(proto.Size(metrics))/(1<<20), "metrics-MiB")
	medians := r.medians()
	for name, middle := range medians {
		b.ReportMetric(milliseconds(middle), name+"-ms")
	}
	for i, name := range []string{"ListContainerStats", "ListPodSandboxStats"} {
		if goal := statsGoals[pods][i]; medians[name] > goal {
			b.Logf("%s of %d pods takes %v; the goal is %v", name, pods, medians[name], goal)
		}
	}
}

func askForStats(b *testing.B, client runtimeapi.RuntimeServiceClient, r *report, pods int) error {
	return errors.Join(
		r.time("ListContainerStats", func() error {
			answer, err := client.ListContainerStats(b.Context(), &runtimeapi.ListContainerStatsRequest{})
			if err == nil && (len(answer.GetStats()) != pods || answer.GetStats()[pods-1].GetMemory().GetUsageBytes() == nil) {
				err = fmt.Errorf("%d answers", len(answer.GetStats()))
			}
			return err
		}),
		r.time("ListPodSandboxStats", func() error {
			answer, err := client.ListPodSandboxStats(b.Context(), &runtimeapi.ListPodSandboxStatsRequest{})
			if err == nil && (len(answer.GetStats()) != pods || answer.GetStats()[pods-1].GetLinux().GetNetwork().GetDefaultInterface().GetName() != "eth0" ||
				answer.GetStats()[pods-1].GetLinux().GetProcess().GetProcessCount().GetValue() != 1) {
				err = fmt.Errorf("%d answers", len(answer.GetStats()))
			}
			return err
		}),
		r.time("ListPodSandboxMetrics", func() error {
			answer, err := client.ListPodSandboxMetrics(b.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
			if err == nil && len(answer.GetPodMetrics()) != pods {
				err = fmt.Errorf("%d answers", len(answer.GetPodMetrics()))
			}
			return err
		}),
	)
}

// counted is the questions' side of what a daemon has: where cgroups and pins are.
type counted struct {
	*figures.Reader
	views   *projections.Live
	manager *cgroups.Manager
	pins    string
	pids    []int
}

// wake has every process run for a moment.
func (c *counted) wake(b *testing.B) {
	b.Helper()
	for _, signal := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		for _, pid := range c.pids {
			if err := unix.Kill(pid, signal); err != nil {
				b.Fatal(err)
			}
		}
	}
	time.Sleep(100 * time.Millisecond)
}

// newCounted makes pods of one container each: their events, cgroups and network
// namespaces. All is removed at the end.
func newCounted(b *testing.B, pods int) *counted {
	b.Helper()
	node, err := cgroups.Detect()
	if err != nil {
		b.Fatal(err)
	}
	root := fmt.Sprintf("/stele-bench-%d-%d", os.Getpid(), pods)
	manager, err := cgroups.NewManager(node, cgroups.Cgroupfs, root)
	if err != nil {
		b.Fatal(err)
	}
	c := &counted{manager: manager, pins: b.TempDir()}
	b.Cleanup(func() {
		if err := manager.RemoveRoot(); err != nil {
			b.Error(err)
		}
	})
	log := memlog.New(memlog.Options{})
	b.Cleanup(func() { _ = log.Close() })
	for i := range pods {
		c.addPod(b, log, fmt.Sprintf("%064x", 2*i), fmt.Sprintf("%064x", 2*i+1))
	}
	feed, err := projections.Open(b.Context(), log, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	c.views = feed.Live
	at := time.Now()
	c.Reader = figures.New(figures.Config{Node: node, Metrics: []string{figures.AllGroups}, Layer: func(string) (figures.Layer, bool) {
		return figures.Layer{Path: "/var", Bytes: 4096, Inodes: 1, At: at}, true
	}})
	return c
}

func (c *counted) addPod(b *testing.B, log eventlog.Log, pod, name string) {
	b.Helper()
	podConfig, _ := proto.Marshal(&runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod-" + pod[56:], Namespace: "bench", Uid: pod[:32]},
		Labels:   map[string]string{"io.kubernetes.pod.name": "pod-" + pod[56:], "io.kubernetes.pod.namespace": "bench", "io.kubernetes.pod.uid": pod[:32]},
	})
	config, _ := proto.Marshal(&runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "registry.example/bench/image:latest"},
		Labels: map[string]string{"io.kubernetes.container.name": "c", "io.kubernetes.pod.name": "pod-" + pod[56:]},
	})
	pid := c.addProcess(b, pod, name)
	c.addNamespace(b, pod)
	appendAll(b, log, "sandbox/"+pod, codec.EncodeSandbox, []sandbox.Event{
		sandbox.SandboxRequested{ID: id.Sandbox(pod), Name: sandbox.Name{Name: pod}, Handler: "runc", Config: podConfig, At: time.Now()},
		sandbox.SandboxPrepared{}, sandbox.NetworkAttached{IPs: []string{"10.0.0.2"}}, sandbox.SandboxReady{},
	})
	appendAll(b, log, "container/"+name, codec.EncodeContainer, []container.Event{
		container.ContainerRequested{ID: id.Container(name), Sandbox: id.Sandbox(pod), Config: config, Image: "sha256:1", At: time.Now()},
		container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: pid}},
		container.StartRequested{}, container.ContainerStarted{At: time.Now()},
	})
}

func appendAll[E any](b *testing.B, log eventlog.Log, stream string, encode func(E) (codec.Encoded, error), events []E) {
	b.Helper()
	for i, e := range events {
		encoded, err := encode(e)
		if err == nil {
			_, err = log.Append(b.Context(), eventlog.Append{
				Stream: eventlog.Stream(stream), Expected: eventlog.Version(i),
				Entries: []eventlog.Entry{{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload}},
			})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// addProcess makes the cgroups of a pod and its container, with a process.
func (c *counted) addProcess(b *testing.B, pod, name string) (pid int) {
	b.Helper()
	cgroup, err := c.manager.ContainerCgroup("", pod, name)
	if err != nil {
		b.Fatal(err)
	}
	process := exec.Command("sleep", "100000")
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if err := c.manager.RemoveSandbox(context.Background(), "", pod); err != nil {
			b.Error(err)
		}
	})
	for _, h := range c.manager.Node().Hierarchies {
		if h.Unified && c.manager.Node().Layout == cgroups.V2 {
			enable(b, h.Mountpoint, cgroup)
		}
		dir := filepath.Join(h.Mountpoint, cgroup)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if strings.Contains(strings.Join(h.Controllers, " "), "cpuset") && !h.Unified {
			continue // takes no process before its files are filled in
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, process.Process.Pid), 0); err != nil {
			b.Fatal(err)
		}
	}
	c.pids = append(c.pids, process.Process.Pid)
	return process.Process.Pid
}

// enable gives the controllers to the cgroups above a container's.
func enable(b *testing.B, mountpoint, cgroup string) {
	b.Helper()
	dir := mountpoint
	for element := range strings.SplitSeq(strings.Trim(cgroup, "/"), "/") {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory +pids +io"), 0); err != nil {
			b.Fatal(err)
		}
		dir = filepath.Join(dir, element)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
	}
}

// addNamespace makes and pins a network namespace with a veth.
func (c *counted) addNamespace(b *testing.B, pod string) {
	b.Helper()
	pin := filepath.Join(c.pins, pod)
	made := make(chan error)
	go func() { // its thread ends with it
		runtime.LockOSThread()
		made <- errors.Join(
			os.WriteFile(pin, nil, 0o600),
			unix.Unshare(unix.CLONE_NEWNET),
			netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}),
			unix.Mount("/proc/thread-self/ns/net", pin, "", unix.MS_BIND, ""),
		)
	}()
	if err := <-made; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Unmount(pin, unix.MNT_DETACH); err != nil {
			b.Error(err)
		}
	})
}

// serve serves the CRI on a socket.
func (c *counted) serve(b *testing.B) runtimeapi.RuntimeServiceClient {
	b.Helper()
	listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(cri.MessageMost))
	runtimeapi.RegisterRuntimeServiceServer(server, cri.New(cri.Parts{Views: c.views, Stats: c}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	b.Cleanup(func() {
		server.Stop()
		<-served
	})
	conn, err := grpc.NewClient("unix://"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return runtimeapi.NewRuntimeServiceClient(conn)
}

// Containers is part of cri.Stats, and so are the others.
func (c *counted) Containers(ctx context.Context, containers []*projections.Container) ([]*runtimeapi.ContainerStats, error) {
	asked := make([]figures.Container, len(containers))
	for i, x := range containers {
		asked[i] = c.container(x)
	}
	return c.Reader.Containers(ctx, asked)
}

func (c *counted) Pods(ctx context.Context, pods []cri.Members) ([]*runtimeapi.LinuxPodSandboxStats, error) {
	return c.Reader.Pods(ctx, c.members(pods))
}

func (c *counted) PodMetrics(ctx context.Context, pods []cri.Members) ([]*runtimeapi.PodSandboxMetrics, error) {
	return c.Reader.PodMetrics(ctx, c.members(pods))
}

func (c *counted) members(pods []cri.Members) []figures.Pod {
	asked := make([]figures.Pod, len(pods))
	for i, m := range pods {
		asked[i] = figures.Pod{ID: string(m.Pod.State.ID), Name: m.Pod.Shown.Metadata.GetName(), Namespace: "bench", Network: filepath.Join(c.pins, string(m.Pod.State.ID))}
		asked[i].Cgroup, _ = c.manager.SandboxCgroup("", asked[i].ID)
		for _, x := range m.Containers {
			asked[i].Containers = append(asked[i].Containers, c.container(x))
		}
	}
	return asked
}

func (c *counted) container(x *projections.Container) figures.Container {
	asked := figures.Container{ID: string(x.State.ID), Since: x.State.Request.At, Init: x.State.Creation.Process.PID, Name: "c", Image: x.Shown.Image.GetImage()}
	asked.Cgroup, _ = c.manager.ContainerCgroup("", string(x.State.Sandbox), asked.ID)
	return asked
}
