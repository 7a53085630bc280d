package projections

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// podsOf starts pods, each with two containers whose configurations have a usual size,
// and returns their sandboxes.
func podsOf(b *testing.B, log eventlog.Log, pods int) []*sandboxActor {
	b.Helper()
	do := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	labels := map[string]string{}
	config := &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Labels: labels}
	for i := range 30 {
		labels[fmt.Sprintf("example.org/label-%d", i)] = "a value of some length"
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: fmt.Sprintf("SERVICE_%d_HOST", i), Value: []byte("10.96.0.1")})
		config.Mounts = append(config.Mounts, &runtimeapi.Mount{ContainerPath: fmt.Sprint("/mnt/", i), HostPath: fmt.Sprint("/var/lib/kubelet/pods/x/volumes/", i)})
	}
	podBytes, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Labels: labels})
	do(err)
	bytes, err := proto.Marshal(config)
	do(err)
	var sandboxes []*sandboxActor
	for i := range pods {
		name := fmt.Sprintf("%064d", i)
		s := newSandbox(name)
		at := epoch.Add(time.Duration(i) * time.Second)
		for _, c := range []sandbox.Command{
			sandbox.Run{ID: id.Sandbox(name), Name: sandbox.Name{Name: name}, Config: podBytes, At: at},
			sandbox.PrepareSandboxDone{}, sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}},
		} {
			do(s.do(log, c))
		}
		for j := range 2 {
			name := fmt.Sprintf("%064d", 10*i+j)
			c := newContainer(name)
			do(s.do(log, sandbox.AddContainer{Container: id.Container(name)}))
			for _, command := range []container.Command{
				container.Create{ID: id.Container(name), Sandbox: id.Sandbox(s.at.State.ID), Config: bytes, SandboxConfig: podBytes, At: at},
				container.PrepareRootfsDone{}, container.CreateRuntimeDone{Process: container.Process{PID: 42}}, container.Start{}, container.StartRuntimeDone{},
			} {
				do(c.do(log, command))
			}
		}
		sandboxes = append(sandboxes, s)
	}
	return sandboxes
}

func BenchmarkContainers(b *testing.B) {
	log := memlog.New(memlog.Options{})
	defer log.Close()
	podsOf(b, log, 500)
	live := opened(b, log).Live
	for b.Loop() {
		if len(live.Containers()) != 1000 {
			b.Fatal("not all are listed")
		}
	}
}

// The longest time from an append until its record is shown, on a node with 500 pods, while
// nothing else happens, while checkpoints are saved (changes), and while each is made as a whole.
func BenchmarkAwait(b *testing.B) {
	nothing := func(*Feed) {}
	b.Run("quiet", func(b *testing.B) { benchmarkAwait(b, func(f *Feed) { f.saver.busy.Store(true) }, nothing) })
	b.Run("changes", func(b *testing.B) { benchmarkAwait(b, nothing, nothing) })
	b.Run("whole", func(b *testing.B) { benchmarkAwait(b, nothing, func(f *Feed) { f.saver.begin.Store(true) }) })
}

func benchmarkAwait(b *testing.B, first, again func(*Feed)) {
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(b.TempDir(), "events.db"), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	pods := podsOf(b, log, 500)
	f := opened(b, log)
	save(b, f)
	first(f)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	var appends, awaits []time.Duration
	i := 0
	for b.Loop() {
		c := id.Container(fmt.Sprint("extra-", i))
		s := pods[i%len(pods)]
		for _, command := range []sandbox.Command{sandbox.AddContainer{Container: c}, sandbox.ForgetContainer{Container: c}} {
			begun := time.Now()
			if err := s.do(log, command); err != nil {
				b.Fatal(err)
			}
			appended := time.Now()
			if err := f.Await(ctx, s.at.Sequence); err != nil {
				b.Fatal(err)
			}
			appends, awaits = append(appends, appended.Sub(begun)), append(awaits, time.Since(appended))
		}
		i++
		again(f)
	}
	for what, all := range map[string][]time.Duration{"append": appends, "await": awaits} {
		slices.Sort(all)
		b.ReportMetric(all[len(all)-1].Seconds()*1000, what+"-longest-ms")
		b.ReportMetric(all[len(all)*999/1000].Seconds()*1000, what+"-p999-ms")
	}
}

// A start with 500 pods: the checkpoint, and no tail.
func BenchmarkOpen(b *testing.B) {
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(b.TempDir(), "events.db"), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	podsOf(b, log, 500)
	save(b, opened(b, log))
	for b.Loop() {
		if len(opened(b, log).Live.Containers()) != 1000 {
			b.Fatal("not all are known")
		}
	}
}

// How long the feed stops for the draft of a whole checkpoint, with 500 pods and a full history: it is
// made once, by a start that found none.
func BenchmarkDraft(b *testing.B) {
	log := memlog.New(memlog.Options{})
	defer log.Close()
	podsOf(b, log, 500)
	f := opened(b, log)
	for i := range historyKept {
		f.History.add(Ended{eventlog.Stream(fmt.Sprintf("sandbox/%064d", i)), eventlog.Sequence(i)})
	}
	for b.Loop() {
		if f.everything() == nil {
			b.Fatal("there is nothing")
		}
	}
}
