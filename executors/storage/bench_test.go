package storage

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// BenchmarkRootfs makes and removes one container's root filesystem while others exist.
func BenchmarkRootfs(b *testing.B) {
	ctx := context.Background()
	server := images.Registry(b)
	s := open(b, dirs(b))
	ref := server.Push(b, "app:v1", small(b, "content", v1.Config{}))
	image := pull(b, s, server, ref, ref)
	for i := range 50 {
		other := id(fmt.Sprint("other ", i))
		prepare(b, s, other, image)
		defer release(b, s, other)
	}
	b.Run("prepare", func(b *testing.B) {
		for i := range b.N {
			prepare(b, s, id(fmt.Sprint(i)), image)
			b.StopTimer()
			release(b, s, id(fmt.Sprint(i)))
			b.StartTimer()
		}
	})
	b.Run("release", func(b *testing.B) {
		for i := range b.N {
			b.StopTimer()
			prepare(b, s, id(fmt.Sprint(i)), image)
			b.StartTimer()
			release(b, s, id(fmt.Sprint(i)))
		}
	})
	b.Run("volume", func(b *testing.B) {
		for i := range b.N {
			request := MountImageRequest{ID: VolumeID(id(fmt.Sprint(i)), 0), Image: image.ID}
			mountVolume(b, s, request)
			if err := s.Volumes.Unmount(ctx, request.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("resolve", func(b *testing.B) {
		for range b.N {
			if _, err := s.Images.Resolve(ctx, ref); err != nil {
				b.Fatal(err)
			}
		}
	})
	fsinfo := func(b *testing.B) {
		for range b.N {
			if _, _, err := s.Usage.Filesystems(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("fsinfo", fsinfo)
	b.Run("fsinfo-old", func(b *testing.B) {
		// Every call finds old figures of the containers.
		clock := time.Now()
		s.now = func() time.Time { clock = clock.Add(rootfsUsageAge); return clock }
		fsinfo(b)
		s.Usage.refresh.wait()
		s.now = time.Now
	})
}

// BenchmarkRootfsLives makes and removes root filesystems, many at a time, while others
// exist. Its metrics are the medians of both.
func BenchmarkRootfsLives(b *testing.B) {
	server := images.Registry(b)
	for _, run := range []string{"disk", "tmpfs"} {
		for _, atOnce := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("run=%s/at-once=%d", run, atOnce), func(b *testing.B) {
				options := dirs(b)
				if run == "tmpfs" {
					onTmpfs(b, options.RunRoot)
				}
				s := open(b, options)
				ref := server.Push(b, "app:v1", small(b, "content", v1.Config{}))
				benchmarkLives(b, s, pull(b, s, server, ref, ref), atOnce)
			})
		}
	}
}

// onTmpfs makes a directory a file system of its own in memory, as run roots are on nodes.
func onTmpfs(b *testing.B, dir string) {
	b.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			b.Error(err)
		}
	})
}

func benchmarkLives(b *testing.B, s *Store, image Image, atOnce int) {
	b.Helper()
	for i := range 50 {
		other := id(fmt.Sprint("other ", i))
		prepare(b, s, other, image)
		defer release(b, s, other)
	}
	took := [2][]time.Duration{make([]time.Duration, b.N), make([]time.Duration, b.N)}
	var next atomic.Int64
	var workers sync.WaitGroup
	b.ResetTimer()
	for range atOnce {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				begun := time.Now()
				prepare(b, s, id(fmt.Sprint(i)), image)
				prepared := time.Now()
				release(b, s, id(fmt.Sprint(i)))
				took[0][i], took[1][i] = prepared.Sub(begun), time.Since(prepared)
			}
		})
	}
	workers.Wait()
	b.StopTimer()
	for i, name := range []string{"prepare-ms", "release-ms"} {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][b.N/2].Microseconds())/1000, name)
	}
}
