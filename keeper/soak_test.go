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
	// soakBytes is what the log's files may have, the least that can be configured.
	soakBytes = keeper.MinBytes
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
	soak(t, 320, 60_000)
}

// BenchmarkSoak plays 10,000 lives of pods with execs, on disk, with little retention: the files
// stay below the set size, the memory stays level, and List does not change. It prints what was
// left of how much.
func BenchmarkSoak(b *testing.B) {
	for b.Loop() {
		soak(b, 10_000, 6000)
	}
}

// soak plays lives of pods with configurations of so many bytes.
func soak(t testing.TB, lives, configured int) {
	n := newSoak(t, t.TempDir(), configured)
	defer func() { _ = n.log.Close() }()
	feed, end := n.running()
	k, err := keeper.New(t.Context(), keeper.Options{
		Log: n.log, Views: views{feed}, BootID: n.boot, Clock: eventlog.SystemClock{}, Logger: slog.New(slog.DiscardHandler),
		Limits: keeper.Limits{Age: time.Hour, Pods: 100, Bytes: soakBytes, Settled: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := list(feed)
	n.play(feed, k, lives)
	if diff := cmp.Diff(listed, list(feed)); diff != "" {
		t.Errorf("List has changed (-before +after):\n%s", diff)
	}
	n.check(lives, k)
	before := feed.Live.Past()
	end()
	n.restart()
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start without a checkpoint gives other answers (-before +after):\n%s", diff)
	}
	report, err := n.log.Verify(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("verify: %v (%v)", report.Damage, err)
	}
}

// soaked is a town on disk, and what was measured.
type soaked struct {
	*town
	path string
	// largest is the largest size of the files, early and late are the heap's.
	largest     int64
	early, late uint64
	// keeping is how long the keeper took.
	keeping time.Duration
}

func newSoak(t testing.TB, dir string, configured int) *soaked {
	t.Helper()
	config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Annotations: map[string]string{"like a real one": strings.Repeat("x", configured)}})
	if err != nil {
		t.Fatal(err)
	}
	n := &soaked{
		town: &town{t: t, at: map[eventlog.Stream]eventlog.Version{}, config: config, volatile: true},
		path: filepath.Join(dir, "events.db"),
	}
	if n.boot, err = eventlog.SystemBootID(); err != nil {
		t.Fatal(err)
	}
	n.open()
	n.startDaemon()
	for i := range soakLiving {
		n.begin(fmt.Sprintf("lives-%d", i))
	}
	return n
}

func (n *soaked) open() {
	n.t.Helper()
	log, err := boltlog.Open(boltlog.Options{Path: n.path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.log = log
}

// restart opens the log again, without the states that were saved.
func (n *soaked) restart() {
	n.t.Helper()
	_ = n.log.Close()
	n.open()
	nothing := eventlog.Delta{Checkpoint: eventlog.Checkpoint{Sequence: 1}, Replace: true}
	if err := n.log.SaveCheckpoint(n.t.Context(), "projections", nothing); err != nil {
		n.t.Fatal(err)
	}
}

// play has pods live and die, and the keeper look now and then.
func (n *soaked) play(feed *projections.Feed, k *keeper.Keeper, lives int) {
	n.t.Helper()
	for i := range lives {
		pod := fmt.Sprintf("pod-%06d", i)
		n.begin(pod)
		n.execs(pod, soakExecs)
		n.end(pod)
		n.execs(fmt.Sprintf("lives-%d", i%soakLiving), 1)
		n.up++ // it names execs
		if i%soakEvery > 0 && i < lives-1 {
			continue
		}
		if err := feed.Await(n.t.Context(), n.log.Last()); err != nil {
			n.t.Fatal(err)
		}
		begun := time.Now()
		n.settle(k)
		n.keeping += time.Since(begun)
		n.largest = max(n.largest, sizeOf(n.t, n.path))
		if n.early == 0 && i >= lives/2 {
			n.early = heap()
		}
	}
	n.late = heap()
}

// check checks what was measured, and prints it.
func (n *soaked) check(lives int, k *keeper.Keeper) {
	n.t.Helper()
	if n.largest > soakBytes {
		n.t.Errorf("the files had %d bytes, and may have %d", n.largest, int64(soakBytes))
	}
	if n.late > n.early+n.early/4+8<<20 {
		n.t.Errorf("the heap has grown from %d to %d bytes", n.early, n.late)
	}
	usage, err := n.log.Usage(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	if usage.Removed[keeper.RuleSize] == 0 || k.Stats().TooLarge {
		n.t.Errorf("removed: %v, too large: %t", usage.Removed, k.Stats().TooLarge)
	}
	const mib = 1 << 20
	n.t.Logf("%d lives, %d records: %d are left, %v were removed; the files had %.1f MiB at most, the heap %.1f MiB and at last %.1f MiB; the keeper took %v, with %d compactions",
		lives, usage.Last, usage.Records, usage.Removed, float64(n.largest)/mib, float64(n.early)/mib, float64(n.late)/mib,
		n.keeping.Round(time.Millisecond), k.Stats().Compactions)
}

// Space that was freed comes back to the file system.
func TestCompacts(t *testing.T) {
	n := newSoak(t, t.TempDir(), 1<<20)
	defer func() { _ = n.log.Close() }()
	for i := range 20 {
		pod := fmt.Sprintf("pod-%d", i)
		n.begin(pod)
		n.end(pod)
	}
	before := sizeOf(t, n.path)
	k, err := keeper.New(t.Context(), keeper.Options{
		Log: n.log, Views: views{n.opened()}, BootID: n.boot, Clock: later{}, Logger: slog.New(slog.DiscardHandler), Limits: week(),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.settle(k)
	after := sizeOf(t, n.path)
	if before < 40<<20 || after > before/2 || k.Stats().Compactions != 1 {
		t.Errorf("of %d bytes %d are left after %d compactions", before, after, k.Stats().Compactions)
	}
	if living := n.opened().Live.Sandboxes(); len(living) != soakLiving {
		t.Errorf("%d pods live", len(living))
	}
}

// later is the system's clock in a month.
type later struct{ eventlog.SystemClock }

// SinceBoot implements eventlog.Clock.
func (l later) SinceBoot() time.Duration { return l.SystemClock.SinceBoot() + 30*day }

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
