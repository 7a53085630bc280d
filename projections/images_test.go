package projections

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

func newImage(name string) *imageActor {
	return &imageActor{
		stream: eventlog.Stream("image/" + name), decide: image.Decide, evolve: image.Evolve,
		ended: func(image.State) bool { return false }, encode: codec.EncodeImage,
	}
}

// pulled runs a pull to its end.
func pulled(t fatal, log eventlog.Log, i *imageActor, pull id.Pull) {
	for _, c := range []image.Command{image.RequestPull{Ref: "ref", Pull: pull}, image.FetchImageDone{Pull: pull, ImageID: "id"}} {
		if err := i.do(log, c); err != nil {
			t.Fatal(err)
		}
	}
}

// An image reference is reported as at the end of its stream in the log, even if the
// feed lags.
func TestImage(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	running(t, f)
	i := newImage("i")
	if at, known := f.Image(t.Context(), i.stream); !known || at.Version != 0 {
		t.Errorf("an unknown one: %+v, %t", at, known)
	}
	for n := range 200 {
		pulled(t, log, i, id.Pull(fmt.Sprint(n)))
		at, known := f.Image(t.Context(), i.stream)
		if !known || at.Version != i.at.Version || at.Sequence != i.at.Sequence || at.BootID != i.at.BootID || !image.Ended(at.State) {
			t.Fatalf("%+v, %t, want %+v", at, known, i.at)
		}
	}
	if err := i.do(log, image.RequestPull{Ref: "ref", Pull: "p"}); err != nil {
		t.Fatal(err)
	}
	if at, known := f.Image(t.Context(), i.stream); !known || len(at.State.Pulls) != 1 || at.State.Ref != "ref" {
		t.Errorf("one that is being pulled: %+v, %t", at, known)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	behind := opened(t, log)
	pulled(t, log, newImage("other"), "p")
	if _, known := behind.Image(gone, i.stream); known {
		t.Error("something is known although the feed is behind")
	}
}

func TestImageOfDamagedStream(t *testing.T) {
	log := newMemlog(t)
	i := newImage("i")
	pulled(t, log, i, "p")
	if _, err := log.Append(t.Context(), eventlog.Append{Stream: i.stream, Expected: i.at.Version, Entries: []eventlog.Entry{{Type: "x", Schema: 1}}}); err != nil {
		t.Fatal(err)
	}
	if at, known := opened(t, log).Image(t.Context(), i.stream); known {
		t.Errorf("a damaged stream is at %+v", at)
	}
}

// An idle reference costs little memory: a place and no state.
func BenchmarkIdleImages(b *testing.B) {
	const references = 20_000
	log := memlog.New(memlog.Options{})
	defer log.Close()
	for i := range references {
		pulled(b, log, newImage(fmt.Sprintf("%064d", i)), "p")
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		f := opened(b, log)
		b.ReportMetric(float64(heap()-before)/references, "bytes/reference")
		if len(f.Live.idle) != references {
			b.Fatal("not all are known")
		}
	}
}
