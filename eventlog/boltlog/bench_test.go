package boltlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// benchPayload has about the size of a container's event.
var benchPayload = make([]byte, 200)

// benchStream has the length of a real one.
func benchStream(n int) eventlog.Stream {
	return eventlog.Stream(fmt.Sprintf("container/%064x", n))
}

// BenchmarkAppend has producers that each wait for their append before the
// next one, as actors do. It reports how many commits there were for an append;
// each is one sync.
func BenchmarkAppend(b *testing.B) {
	for _, producers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			l := open(b, Options{Path: filepath.Join(b.TempDir(), "events.db")})
			before := l.Stats()
			b.ResetTimer()
			var all sync.WaitGroup
			for p := range producers {
				n := b.N / producers
				if p < b.N%producers {
					n++
				}
				all.Go(func() { produce(b, l, benchStream(p), n) })
			}
			all.Wait()
			b.StopTimer()
			commits := l.Stats().Commits - before.Commits
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(commits)/float64(b.N), "commits/append")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func produce(b *testing.B, l *Log, s eventlog.Stream, n int) {
	for v := range eventlog.Version(n) {
		_, err := l.Append(context.Background(), eventlog.Append{
			Stream: s, Expected: v,
			Entries: []eventlog.Entry{{Type: "container.Started.v1", Schema: 1, Payload: benchPayload}},
		})
		if err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkReplay opens a log of 100,000 events and reads all, with the file
// in the page cache (warm) and without (cold).
func BenchmarkReplay(b *testing.B) {
	const events, streams = 100_000, 1000
	path := filepath.Join(b.TempDir(), "events.db")
	fillForReplay(b, path, events, streams)
	for _, cold := range []bool{false, true} {
		name := "warm"
		if cold {
			name = "cold"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if cold {
					dropFromCache(b, path)
				}
				b.StartTimer()
				replay(b, path, events)
			}
			b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/replay")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fillForReplay writes events to streams that take turns, as pods do.
func fillForReplay(b *testing.B, path string, events, streams int) {
	b.Helper()
	l, err := Open(Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var all sync.WaitGroup
	all.Add(events)
	room := make(chan struct{}, 4096)
	for i := range events {
		room <- struct{}{}
		l.AppendAsync(eventlog.Append{
			Stream: benchStream(i * 7919 % streams), Expected: eventlog.Version(i / streams),
			Entries: []eventlog.Entry{{Type: "container.Started.v1", Schema: 1, Payload: benchPayload}},
		}, func(_ []eventlog.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			<-room
			all.Done()
		})
	}
	all.Wait()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d events in %d bytes of file", events, info.Size())
}

func replay(b *testing.B, path string, want int) {
	l, err := Open(Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, err := range l.Read(context.Background(), 1) {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	if n != want {
		b.Fatalf("%d events, want %d", n, want)
	}
	b.StopTimer()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// BenchmarkAppendWhileSaving appends while a checkpoint of 1,000 values of 5 KB is saved
// again and again, and reports what an append waits on average and at most.
func BenchmarkAppendWhileSaving(b *testing.B) {
	for _, saving := range []bool{false, true} {
		b.Run(fmt.Sprintf("saving=%v", saving), func(b *testing.B) {
			l := open(b, Options{Path: filepath.Join(b.TempDir(), "events.db")})
			ctx, cancel := context.WithCancel(b.Context())
			var saver sync.WaitGroup
			if saving {
				saver.Go(func() { saveUntil(ctx, b, l) })
			}
			var longest time.Duration
			for v := eventlog.Version(0); b.Loop(); v++ {
				began := time.Now()
				if _, err := appendTo(l, "s", v); err != nil {
					b.Fatal(err)
				}
				longest = max(longest, time.Since(began))
			}
			cancel()
			saver.Wait()
			b.ReportMetric(longest.Seconds()*1000, "ms-at-most")
		})
	}
}

func saveUntil(ctx context.Context, b *testing.B, l *Log) {
	for round := 0; ctx.Err() == nil; round++ {
		d := eventlog.Delta{Replace: round == 0, Put: make(map[string][]byte)}
		for i := range 1000 {
			d.Put[fmt.Sprintf("container/%064x", i)] = make([]byte, 5000)
		}
		if err := l.SaveCheckpoint(ctx, "live", d); err != nil && ctx.Err() == nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkOpen opens a log of about 200 MB and reads its last 10 records, after it was
// closed cleanly and after its daemon was killed.
func BenchmarkOpen(b *testing.B) {
	const events, streams = 100_000, 1000
	path := filepath.Join(b.TempDir(), "events.db")
	payload := benchPayload
	defer func() { benchPayload = payload }()
	benchPayload = make([]byte, 1500)
	fillForReplay(b, path, events, streams)
	for _, closed := range []bool{true, false} {
		for _, cold := range []bool{false, true} {
			b.Run(fmt.Sprintf("closed=%v/cold=%v", closed, cold), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					if !closed {
						if err := os.Remove(journalPath(path)); err != nil { // the mark is in there
							b.Fatal(err)
						}
					}
					if cold {
						dropFromCache(b, path)
					}
					b.StartTimer()
					l, err := Open(Options{Path: path})
					if err != nil {
						b.Fatal(err)
					}
					if n, err := drain(l.Read(b.Context(), events-9)); n != 10 || err != nil {
						b.Fatalf("%d records, %v", n, err)
					}
					b.StopTimer()
					if err := l.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/open")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func dropFromCache(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		b.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}
