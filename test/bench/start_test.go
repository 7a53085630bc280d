package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/test/e2e"
)

const (
	// retained events are in the log at a start, and startPods pods live.
	retained, startPods = 1_000_000, 500
	// startGoal is how long the first List should wait at most.
	startGoal = 500 * time.Millisecond
)

// BenchmarkStart prints how long it takes from the daemon's exec to the answer to its first
// List, and what the start needs, with many retained events of pods that are gone and 500
// pods that are not. Their containers have ended, since their processes are not real. The log
// is in the page cache. An iteration is a start:
//
//	checkpoint      after an orderly stop
//	no-checkpoint   the same, but the whole log has to be read
//	crash           after a kill: the file is checked first
func BenchmarkStart(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	h := e2e.New(b, programs, e2e.Options{})
	h.Daemon.Stop()
	path := filepath.Join(h.Root, "events.db")
	own := filepath.Join(b.TempDir(), "events.db")
	exchange := func() {
		// What the state directory keeps is of the other log.
		for _, name := range []string{"kept", "delivered"} {
			if err := os.RemoveAll(filepath.Join(h.State, name)); err != nil {
				b.Fatal(err)
			}
		}
		for _, suffix := range []string{"", ".journal"} {
			for _, step := range [][2]string{{path + suffix, own + ".own"}, {own + suffix, path + suffix}, {own + ".own", own + suffix}} {
				if err := os.Rename(step[0], step[1]); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	writeHistory(b, own)
	exchange()
	b.Cleanup(func() { // what the pods have is not real, and cannot be removed
		h.Daemon.Stop()
		exchange()
		h.Daemon.Start()
	})
	for _, how := range []string{"no-checkpoint", "checkpoint", "crash"} {
		b.Run(how, func(b *testing.B) {
			var took, cpu time.Duration
			var peak, steady float64
			for range b.N {
				if how == "no-checkpoint" {
					dropCheckpoint(b, path)
				}
				s := timeStart(b, h)
				took, cpu, peak, steady = took+s.took, cpu+s.cpu, max(peak, s.peak), max(steady, s.steady)
				if how == "crash" {
					h.Daemon.Kill9()
				} else {
					h.Daemon.Stop()
				}
			}
			took, cpu = took/time.Duration(b.N), cpu/time.Duration(b.N)
			b.ReportMetric(milliseconds(took), "first-list-ms")
			b.ReportMetric(milliseconds(cpu), "cpu-ms")
			b.ReportMetric(peak, "peak-KiB")
			b.ReportMetric(steady, "steady-KiB")
			if took > startGoal || peak > 2*steady {
				b.Logf("the first List took %v, the goal is %v; %.0f KiB at most, and %.0f later", took, startGoal, peak, steady)
			}
		})
	}
	h.Daemon.Start()
}

// started is what a start cost.
type started struct {
	took, cpu time.Duration
	// peak and steady are anonymous memory in KiB: at most before the first answer, and a
	// while later.
	peak, steady float64
}

// timeStart starts the daemon and asks for a list at once.
func timeStart(b *testing.B, h *e2e.Harness) (s started) {
	b.Helper()
	// The socket of the last daemon is still there.
	if err := os.Remove(h.Socket); err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	begun := time.Now()
	h.Daemon.Launch()
	pid := h.Daemon.PID()
	answered := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for {
			s.peak = max(s.peak, anonymous(pid))
			select {
			case <-answered:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	for {
		// It listens before it serves; a call waits.
		conn, err := net.Dial("unix", h.Socket)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Since(begun) > patience {
			b.Fatalf("the daemon does not listen: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	conn, err := grpc.NewClient("unix://"+h.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: patience}))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	answer, err := runtimeapi.NewRuntimeServiceClient(conn).ListContainers(b.Context(), &runtimeapi.ListContainersRequest{}, grpc.WaitForReady(true))
	s.took, s.cpu = time.Since(begun), ranFor(b, pid)
	close(answered)
	sampling.Wait()
	if err != nil || len(answer.GetContainers()) != startPods {
		b.Fatalf("%d containers are listed: %v", len(answer.GetContainers()), err)
	}
	h.Daemon.WaitReady()
	time.Sleep(5 * time.Second)
	s.steady = anonymous(pid)
	return s
}

// anonymous is how much memory of a process is no file's, in KiB; 0 if it has ended.
func anonymous(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var all, resident, shared int
	_, _ = fmt.Sscan(string(data), &all, &resident, &shared)
	return float64(resident-shared) * float64(os.Getpagesize()) / 1024
}

// dropCheckpoint makes the checkpoint unusable.
func dropCheckpoint(b *testing.B, path string) {
	b.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	delta := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: log.Last(), Schema: 1}, Replace: true}
	if err := log.SaveCheckpoint(b.Context(), "projections", delta); err != nil {
		b.Fatal(err)
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
}

// history writes the lives of pods.
type history struct {
	log   *boltlog.Log
	wrote sync.WaitGroup
	mu    sync.Mutex
	err   error
	place map[string]eventlog.Version
	count int
}

// writeHistory makes a log of pods that have ended, with pods in between that have not.
func writeHistory(b *testing.B, path string) {
	b.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	h := &history{log: log, place: map[string]eventlog.Version{}}
	for i, live := 0, 0; h.count < retained; i++ {
		lives := h.count >= live*(retained/startPods) && live < startPods
		if lives {
			live++
		}
		h.pod(b, i, lives)
		if i%256 == 0 {
			h.wrote.Wait()
		}
	}
	h.wrote.Wait()
	if h.err != nil {
		b.Fatal(h.err)
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
}

// pod writes a pod with a container that was probed ten times and has ended.
func (h *history) pod(b *testing.B, i int, lives bool) {
	b.Helper()
	podConfig, config := asKubelet(podAsked(i), containerAsked())
	asked, err := proto.Marshal(podConfig)
	if err != nil {
		b.Fatal(err)
	}
	requested, err := proto.Marshal(config)
	if err != nil {
		b.Fatal(err)
	}
	s, x, at := id.Sandbox(fmt.Sprintf("%064x", 2*i)), id.Container(fmt.Sprintf("%064x", 2*i+1)), time.Now()
	m := podConfig.Metadata
	write[sandbox.Event](h, "sandbox/"+string(s), codec.EncodeSandbox,
		sandbox.SandboxRequested{ID: s, Name: sandbox.Name{Name: m.Name, Namespace: m.Namespace, UID: m.Uid}, Handler: "runc", Config: asked, At: at},
		sandbox.SandboxPrepared{}, sandbox.NetworkAttached{IPs: []string{"10.0.0.2"}}, sandbox.SandboxReady{}, sandbox.ContainerAdded{Container: x})
	write[container.Event](h, "container/"+string(x), codec.EncodeContainer,
		container.ContainerRequested{
			ID: x, Sandbox: s, Name: container.Name{Name: "c"}, Handler: "runc", Config: requested, SandboxConfig: asked, At: at,
			Image: fmt.Sprintf("%064x", 0), LogPath: podConfig.LogDirectory + "/c/0.log", StopSignal: "SIGTERM",
		},
		container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: 1 << 30, StartTime: 1}},
		container.StartRequested{At: at}, container.ContainerStarted{At: at})
	for n := range 10 {
		exec := id.Exec(fmt.Sprintf("%032x", n))
		write[container.Event](h, "container/"+string(x), codec.EncodeContainer,
			container.ExecRequested{Exec: exec, Command: []string{"/bin/probe", "--port=8080"}, Timeout: time.Second}, container.ExecEnded{Exec: exec})
	}
	write[container.Event](h, "container/"+string(x), codec.EncodeContainer, container.ContainerExited{Exit: container.Exit{At: at}})
	if lives {
		return
	}
	write[container.Event](h, "container/"+string(x), codec.EncodeContainer,
		container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	write[sandbox.Event](h, "sandbox/"+string(s), codec.EncodeSandbox,
		sandbox.ContainerForgotten{Container: x}, sandbox.StopRequested{}, sandbox.NetworkDetached{}, sandbox.SandboxStopped{},
		sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
}

// write appends events without waiting.
func write[E any](h *history, stream string, encode func(E) (codec.Encoded, error), events ...E) {
	a := eventlog.Append{Stream: eventlog.Stream(stream), Expected: h.place[stream], Volatile: true}
	for _, e := range events {
		encoded, err := encode(e)
		if err != nil {
			h.fail(err)
			return
		}
		a.Entries = append(a.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload})
	}
	h.place[stream] += eventlog.Version(len(events))
	if slices.ContainsFunc(a.Entries, func(e eventlog.Entry) bool { return strings.HasSuffix(e.Type, "Removed.v1") }) {
		delete(h.place, stream)
	}
	h.count += len(events)
	h.wrote.Add(1)
	h.log.AppendAsync(a, func(_ []eventlog.Record, err error) {
		h.fail(err)
		h.wrote.Done()
	})
}

func (h *history) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
}

// ranFor is the CPU time of a process, with that of its threads that have ended, in nanoseconds:
// by the clock that clock_getcpuclockid(3) names.
func ranFor(b *testing.B, pid int) time.Duration {
	b.Helper()
	const scheduled = 2
	var ran unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ran); err != nil {
		b.Fatalf("CPU time of %d: %v", pid, err)
	}
	return time.Duration(ran.Nano())
}
