package boltlog

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// BenchmarkCompact compacts a log of which 1 GiB stays and a quarter of that goes, while four producers
// append as pods do: each waits for its append, every fourth of which waits for the disk. It
// reports what an append waits, with and without the compaction, and how long that takes.
//
//	go test ./eventlog/boltlog -run '^$' -bench Compact -benchtime 1x
func BenchmarkCompact(b *testing.B) {
	for range b.N {
		compactOnce(b)
	}
	b.ReportMetric(0, "ns/op")
}

func compactOnce(b *testing.B) {
	l := open(b, Options{Path: filepath.Join(b.TempDir(), "events.db")})
	const records, streams, size, gone = 5 << 17, 1000, 1750, 1 << 17
	fillLarge(b, l, records, streams, size)
	for s := range streams {
		trim := eventlog.Trim{Stream: benchStream(s), Through: gone / streams, Rule: "age"}
		if err := l.Trim(b.Context(), trim); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.SaveCheckpoint(b.Context(), "live", eventlog.Delta{Replace: true, Put: map[string][]byte{"k": make([]byte, 4<<20)}}); err != nil {
		b.Fatal(err)
	}
	before, err := l.Usage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("before: %d MiB, of which %d MiB are free and %d MiB are records", before.Bytes>>20, before.Free>>20, before.RecordBytes>>20)
	alone := measure(b, l, "alone", func() { time.Sleep(10 * time.Second) })
	began := time.Now()
	during := measure(b, l, "during", func() {
		if err := l.Compact(b.Context()); err != nil {
			b.Error(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/compaction")
	})
	freeing := measure(b, l, "freeing", func() {
		l.store.retired.Wait() // the file system frees the old file
		time.Sleep(2 * time.Second)
	})
	after, err := l.Usage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("after: %d MiB, of which %d MiB are free and %d MiB are records", after.Bytes>>20, after.Free>>20, after.RecordBytes>>20)
	for name, waits := range map[string][]time.Duration{"alone": alone, "during": during, "freeing": freeing} {
		slices.Sort(waits)
		at := func(share float64) float64 { return waits[int(share*float64(len(waits)-1))].Seconds() * 1000 }
		b.ReportMetric(at(0.5), "ms-p50-"+name)
		b.ReportMetric(at(0.99), "ms-p99-"+name)
		b.ReportMetric(at(1), "ms-max-"+name)
		b.Logf("%s: %d appends", name, len(waits))
	}
}

// fillLarge appends records to streams that take turns.
func fillLarge(b *testing.B, l *Log, records, streams, size int) {
	b.Helper()
	payload := make([]byte, size)
	var all sync.WaitGroup
	room := make(chan struct{}, 4096)
	for i := range records {
		room <- struct{}{}
		all.Add(1)
		l.AppendAsync(eventlog.Append{
			Stream: benchStream(i % streams), Expected: eventlog.Version(i / streams), Volatile: true,
			Entries: []eventlog.Entry{{Type: "container.Started.v1", Schema: 1, Payload: payload}},
		}, func(_ []eventlog.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			<-room
			all.Done()
		})
	}
	all.Wait()
}

// BenchmarkAppendWhileThinning does the same while records are thinned out.
func BenchmarkAppendWhileThinning(b *testing.B) {
	for range b.N {
		l := open(b, Options{Path: filepath.Join(b.TempDir(), "events.db")})
		const records, streams = 100_000, 100
		fillLarge(b, l, records, streams, 250)
		waits := measure(b, l, "during", func() { thinHalf(b, l, records, streams) })
		slices.Sort(waits)
		b.ReportMetric(waits[len(waits)/2].Seconds()*1000, "ms-p50")
		b.ReportMetric(waits[len(waits)*99/100].Seconds()*1000, "ms-p99")
		b.ReportMetric(waits[len(waits)-1].Seconds()*1000, "ms-max")
	}
	b.ReportMetric(0, "ns/op")
}

// thinHalf removes every other record.
func thinHalf(b *testing.B, l *Log, records, streams int) {
	b.Helper()
	began := time.Now()
	thin := eventlog.Thin{Rule: "settled"}
	for s := 1; s < records-streams; s++ {
		if s%2 == 0 {
			thin.Sequences = append(thin.Sequences, eventlog.Sequence(s))
		}
		if len(thin.Sequences) == eventlog.MaxThin {
			if err := l.Thin(b.Context(), thin); err != nil {
				b.Fatal(err)
			}
			thin.Sequences = nil
		}
	}
	b.Logf("thinned out in %v", time.Since(began))
}

// measure appends until what it calls ends, and returns what the appends waited.
func measure(b *testing.B, l *Log, name string, during func()) (waits []time.Duration) {
	var over atomic.Bool
	var all sync.WaitGroup
	var mu sync.Mutex
	for p := range 4 {
		all.Go(func() {
			stream := eventlog.Stream(fmt.Sprint("producer/", name, p))
			var mine []time.Duration
			for v := eventlog.Version(0); !over.Load(); v++ {
				began := time.Now()
				_, err := l.Append(context.Background(), eventlog.Append{
					Stream: stream, Expected: v, Volatile: v%4 > 0,
					Entries: []eventlog.Entry{{Type: "container.Started.v1", Schema: 1, Payload: benchPayload}},
				})
				if err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(began))
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, mine...)
		})
	}
	during()
	over.Store(true)
	all.Wait()
	return waits
}
