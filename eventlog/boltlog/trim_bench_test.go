package boltlog

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// BenchmarkTrims removes streams of 13 records, as a container or a pod has them, one after the
// other or many at a time, while four producers append as pods do. It reports how many go in a second, and
// what an append waits meanwhile.
//
//	go test ./eventlog/boltlog -run '^$' -bench Trims -benchtime 1x
func BenchmarkTrims(b *testing.B) {
	const streams, records = 640, 13
	for _, atOnce := range []int{1, 32} {
		b.Run(fmt.Sprintf("at-once=%d", atOnce), func(b *testing.B) {
			for range b.N {
				l := open(b, Options{Path: filepath.Join(b.TempDir(), "events.db")})
				fillLarge(b, l, streams*records, streams, 600)
				began := time.Now()
				waits := measure(b, l, "during", func() { trimStreams(b, l, streams, records, atOnce) })
				b.ReportMetric(streams/time.Since(began).Seconds(), "streams/s")
				slices.Sort(waits)
				at := func(share float64) float64 { return waits[int(share*float64(len(waits)-1))].Seconds() * 1000 }
				b.ReportMetric(at(0.5), "ms-p50")
				b.ReportMetric(at(0.99), "ms-p99")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func trimStreams(b *testing.B, l *Log, streams int, records eventlog.Version, atOnce int) {
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, atOnce)
	for s := range streams {
		slots <- struct{}{}
		all.Go(func() {
			if err := l.Trim(b.Context(), eventlog.Trim{Stream: benchStream(s), Through: records, Whole: true, Rule: "age"}); err != nil {
				b.Error(err)
			}
			<-slots
		})
	}
}
