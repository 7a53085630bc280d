package registry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/images"
)

// A pull has found its lowest layer in the store. While it waits for the next one, the
// layer's image is removed, and the layer with it.
func TestPullThatLostALayerToARemovalIsRepeated(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	base := n.pull(t, server.Push(t, "base:v1", small(t, images.Here(), "base")))
	app := small(t, images.Here(), "base", "app")
	ref := server.Push(t, "app:v1", app)
	layers, err := app.Layers()
	if err != nil {
		t.Fatal(err)
	}
	upper, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, upper.String()) {
			once.Do(func() {
				if err := n.store.Images.Remove(context.Background(), base.ImageID); err != nil {
					t.Error(err)
				}
			})
		}
		return false
	})
	pulled := n.pull(t, ref)
	if pulled.Bytes == 0 {
		t.Error("nothing was fetched")
	}
	all, err := n.store.Images.List(context.Background())
	if err != nil || len(all) != 1 || all[0].ID != pulled.ImageID {
		t.Errorf("images are %+v, %v", all, err)
	}
	if left := n.temporary(t); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func TestPullOntoAFullDiskLeavesNothing(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server, func(o *nodeOptions) {
		dir := filepath.Join(o.Root, "storage")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	})
	kept := filepath.Join(n.puller.keptDir(), "sha256:"+strings.Repeat("0", 64))
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, kept, "what another pull has left for a retry")
	random := rand.NewChaCha8([32]byte{})
	noise := func(size int) string {
		content := make([]byte, size)
		_, _ = random.Read(content) // never fails
		return string(content)
	}
	huge := server.Push(t, "huge:v1", small(t, images.Here(), noise(2<<20), noise(16<<20)))
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: huge})
	if err == nil || !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		t.Errorf("error is %v", err)
	}
	n.expectNoImages(t)
	if used, _, err := n.store.Usage.Filesystems(context.Background()); err != nil || used.Inodes > 0 {
		t.Errorf("layers are left: %+v, %v", used, err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("what was kept for a retry still takes room")
	}
	n.pull(t, server.Push(t, "small:v1", small(t, images.Here(), "content")))
}
