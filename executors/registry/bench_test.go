package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stele-runtime/stele/test/images"
)

// BenchmarkPull pulls an image of many small layers from a registry on loopback, without a
// daemon.
func BenchmarkPull(b *testing.B) {
	const layers, size = 40, 4 << 10
	ctx := context.Background()
	server := images.Registry(b)
	n := newNode(b, server)
	// Random bytes don't compress.
	source := rand.NewChaCha8([32]byte{})
	spec := images.Spec{}
	for i := range layers {
		content := make([]byte, size)
		_, _ = source.Read(content) // never fails
		spec.Layers = append(spec.Layers, []images.File{{Path: fmt.Sprintf("file-%d", i), Mode: 0o644, Content: content}})
	}
	ref := server.Push(b, "layers:v1", images.Build(b, spec))
	for b.Loop() {
		pulled := n.pull(b, ref)
		b.StopTimer()
		if err := n.store.Images.Remove(ctx, pulled.ImageID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
