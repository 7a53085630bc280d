package keeper_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/keeper"
	"github.com/stele-runtime/stele/projections"
)

const (
	// soakBytes is what the log's files may have, even less than can be configured.
	soakBytes = 32 << 20
	// soakLiving pods live all the time, and soakExecs commands run in each container of a
	// pod that ends.
	soakLiving, soakExecs = 5, 5
	// soakEvery is how many pods live and die between two looks of the keeper.
	soakEvery = 20
)

// TestSoak is the short cut of BenchmarkSoak: it goes on until pods have to go.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	soak(t, 300)
}

// BenchmarkSoak plays 10,000 lives of pods with execs, on disk, with little retention: the files
// stay below the set size, the memory stays level, and List does not change. It prints what was
// left of how much.
func BenchmarkSoak(b *testing.B) {
	for b.Loop() {
		soak(b, 10_000)
	}
}

func soak(t testing.TB, lives int) {
	config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Annotations: map[string]string{"like a real one": strings.Repeat("x", 12_000)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "events.db")
	n := &town{t: t, at: map[eventlog.Stream]eventlog.Version{}, config: config, volatile: true}
	open := func() {
		log, err := boltlog.Open(boltlog.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		n.log = log
	}
	open()
	defer func() { _ = n.log.Close() }()
	if n.boot, err = eventlog.SystemBootID(); err != nil {
		t.Fatal(err)
	}
	n.startDaemon()
	for i := range soakLiving {
		n.begin(fmt.Sprintf("lives-%d", i))
	}
	feed, end := n.running()
	k, err := keeper.New(t.Context(), keeper.Options{
		Log: n.log, Views: views{feed}, BootID: n.boot, Clock: eventlog.SystemClock{}, Logger: slog.New(slog.DiscardHandler),
		Limits: keeper.Limits{Age: time.Hour, Pods: 100, Bytes: soakBytes, Settled: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := list(feed)
	var largest int64
	var early, late uint64
	var keeping time.Duration
	for i := range lives {
		pod := fmt.Sprintf("pod-%06d", i)
		n.begin(pod)
		n.execs(pod, soakExecs)
		n.end(pod)
		n.execs(fmt.Sprintf("lives-%d", i%soakLiving), 1)
		n.up++ // it names execs
		if i%soakEvery > 0 {
			continue
		}
		if err := feed.Await(t.Context(), n.log.Last()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		n.settle(k)
		keeping += time.Since(begun)
		largest = max(largest, sizeOf(t, path))
		switch i / soakEvery * soakEvery {
		case lives / 2 / soakEvery * soakEvery:
			early = heap()
		case (lives - 1) / soakEvery * soakEvery:
			late = heap()
		}
	}
	if err := feed.Await(t.Context(), n.log.Last()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listed, list(feed)); diff != "" {
		t.Errorf("List has changed (-before +after):\n%s", diff)
	}
	if largest > soakBytes {
		t.Errorf("the files had %d bytes, and may have %d", largest, int64(soakBytes))
	}
	if late > early+early/4+8<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", early, late)
	}
	usage, err := n.log.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if usage.Removed[keeper.RuleSize] == 0 {
		t.Error("nothing was removed for the size")
	}
	before := feed.Live.Past()
	end()
	_ = n.log.Close()
	open()
	if err := n.log.SaveCheckpoint(t.Context(), "projections", eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 1}, Replace: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start without a checkpoint gives other answers (-before +after):\n%s", diff)
	}
	report, err := n.log.Verify(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("verify: %v (%v)", report.Damage, err)
	}
	t.Logf("%d lives, %d records: %d are left, %v were removed; the files had %.1f MiB at most, the heap %.1f MiB and at last %.1f MiB; the keeper took %v",
		lives, usage.Last, usage.Records, usage.Removed, float64(largest)/(1<<20), float64(early)/(1<<20), float64(late)/(1<<20), keeping.Round(time.Millisecond))
}

// running follows the log until the returned function is called.
func (n *town) running() (*projections.Feed, func()) {
	feed := n.opened()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = feed.Run(ctx)
	}()
	return feed, func() {
		cancel()
		<-ended
	}
}

// list is what List answers, in short.
func list(feed *projections.Feed) (all []string) {
	for _, s := range feed.Live.Sandboxes() {
		all = append(all, fmt.Sprint(s.State.ID, s.State.Phase))
	}
	for _, c := range feed.Live.Containers() {
		all = append(all, fmt.Sprint(c.State.ID, c.State.Phase))
	}
	return all
}

// sizeOf is the size of the log's files.
func sizeOf(t testing.TB, path string) (bytes int64) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
