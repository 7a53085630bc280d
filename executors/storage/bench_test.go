package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
