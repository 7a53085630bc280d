package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
)

// BenchmarkHeld prints how much of the heap actors and projections hold for each pod with
// one running container, without the garbage that a process has beside it: once for pods
// that this daemon has made, once for those that it found at its start.
func BenchmarkHeld(b *testing.B) {
	const pods = 500
	path := filepath.Join(b.TempDir(), "events.db")
	for _, how := range []string{"made", "found"} {
		b.Run(how, func(b *testing.B) {
			h := openHeld(b, path)
			defer h.close()
			before := h.before
			if how == "made" {
				before = heap()
				h.run(b, pods)
			}
			time.Sleep(40 * time.Second) // until actors at rest are let go
			now := heap()
			for b.Loop() {
				if len(h.feed.Live.Containers()) != pods {
					b.Fatal("not all pods are there")
				}
			}
			b.ReportMetric(float64(now-before)/pods, "B/pod")
			runtime.KeepAlive(h)
		})
	}
}

// held is what holds pods in a daemon.
type held struct {
	log    *boltlog.Log
	feed   *projections.Feed
	node   *node.Node
	before uint64
	end    context.CancelFunc
	ended  chan struct{}
}

func openHeld(b *testing.B, path string) *held {
	b.Helper()
	logger := slog.New(slog.DiscardHandler)
	log, err := boltlog.Open(boltlog.Options{Path: path, Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	h := &held{log: log, before: heap(), ended: make(chan struct{})}
	if h.feed, err = projections.Open(b.Context(), log, projections.Options{Logger: logger}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.end = cancel
	go func() {
		defer close(h.ended)
		_ = h.feed.Run(ctx)
	}()
	executor := &atOnce{}
	if h.node, err = node.New(node.Config{Log: log, Executor: executor, Await: h.feed.Await, Recall: h.feed, Logger: logger}); err != nil {
		b.Fatal(err)
	}
	executor.node = h.node
	start := host.StartDaemon{BootID: "a boot", At: time.Now()}
	if err := h.node.Boot(b.Context(), h.feed.Live.Past(), start); err != nil {
		b.Fatal(err)
	}
	return h
}

func (h *held) close() {
	h.node.Close(context.Background())
	h.end()
	<-h.ended
	_ = h.log.Close()
}

// run makes pods as the CRI's calls do, and a few that end, so that nothing newer is in the
// buffers of the last events.
func (h *held) run(b *testing.B, pods int) {
	b.Helper()
	for i := range pods + 50 {
		podConfig, config := asKubelet(podAsked(i), containerAsked())
		asked, err := proto.Marshal(podConfig)
		if err != nil {
			b.Fatal(err)
		}
		requested, err := proto.Marshal(config)
		if err != nil {
			b.Fatal(err)
		}
		m := podConfig.Metadata
		s, err := h.node.RunSandbox(b.Context(), sandbox.Run{
			ID: id.Sandbox(fmt.Sprintf("%064x", 2*i)), Name: sandbox.Name{Name: m.Name, Namespace: m.Namespace, UID: m.Uid},
			Handler: "runc", Config: asked, ConfigDigest: fmt.Sprintf("%064x", i), At: time.Now(),
		})
		if err != nil {
			b.Fatal(err)
		}
		c, err := h.node.CreateContainer(b.Context(), container.Create{
			ID: id.Container(fmt.Sprintf("%064x", 2*i+1)), Sandbox: s.ID, Name: container.Name{Name: "c"}, Handler: "runc",
			Config: requested, SandboxConfig: s.Config, ConfigDigest: fmt.Sprintf("%064x", i), Image: fmt.Sprintf("%064x", 0),
			LogPath: "/var/log/pods/" + m.Namespace + "_" + m.Name + "_" + m.Uid + "/c/0.log", StopSignal: "SIGTERM", At: time.Now(),
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.node.Container(b.Context(), c.ID, container.Start{At: time.Now()}, container.StartAnswer); err != nil {
			b.Fatal(err)
		}
		if i >= pods {
			if _, err := h.node.Sandbox(b.Context(), s.ID, sandbox.Remove{}, sandbox.RemoveAnswer); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// heap is what of the heap is in use, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // pools give up what they keep after two collections
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func podAsked(i int) *runtimeapi.PodSandboxConfig {
	name := fmt.Sprintf("a-deployment-5d59d67564-%05d", i)
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: fmt.Sprintf("6f0a4a4e-9d2b-4d0e-8f5e-%012d", i)},
		Hostname: name, LogDirectory: "/var/log/pods/default_" + name, Labels: map[string]string{}, Annotations: map[string]string{},
		Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/burstable/pod" + name, SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		}},
	}
}

func containerAsked() *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "registry.example/some/image:v1.2.3"},
		Labels: map[string]string{}, Annotations: map[string]string{}, LogPath: "c/0.log", Command: []string{"/bin/server", "--port=8080"},
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{}, Resources: &runtimeapi.LinuxContainerResources{CpuShares: 102, MemoryLimitInBytes: 64 << 20}},
	}
}

// atOnce carries out effects in no time.
type atOnce struct{ node *node.Node }

func (*atOnce) Sandbox(_ context.Context, f sandbox.Effect) sandbox.Command {
	if _, is := f.(sandbox.AttachNetwork); is {
		return sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}}
	}
	return f.Failed(nil, time.Now())
}

func (x *atOnce) Container(_ context.Context, f container.Effect) container.Command {
	switch f := f.(type) {
	case container.Kill:
		go func() {
			_ = x.node.Exited(context.Background(), string(f.Spec.ID), container.Process{}, container.Exit{Code: 137, At: time.Now()})
		}()
	case container.CreateRuntime:
		return container.CreateRuntimeDone{Process: container.Process{PID: 42, StartTime: 1}}
	case container.StartRuntime:
		return container.StartRuntimeDone{At: time.Now()}
	}
	return f.Failed(nil, time.Now())
}

func (*atOnce) Image(context.Context, image.Effect) image.Command { return nil }
