package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/images"
	"github.com/stele-runtime/stele/test/peers"
)

// BenchmarkPull pulls an image of many small layers, and one of a single big layer,
// from a registry on loopback: over the CRI; with `skopeo copy` into a store of
// containers/storage; and with `ctr images pull` into containerd's overlayfs
// snapshotter. All are on the same disk, and all unpack. Each pull is cold; nothing of
// the image is there, and all of it comes from the registry.
//
// In skopeo's time is the start of its program and the making of a store, which the
// daemons have behind them. In containerd's is the start of ctr, which only asks and
// shows the progress: the daemon itself fetches (three layers at a time, as it does for
// the CRI) and unpacks.
//
// Each syncs to the disk what it does by default: containerd the blobs, the others
// their store's records. None syncs what it unpacked.
func BenchmarkPull(b *testing.B) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		b.Fatalf("`test/deps/install.sh bench` installs skopeo: %v", err)
	}
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	h := e2e.New(b, programs, e2e.Options{})
	contenders := []puller{
		{"stele", func(b *testing.B, image string, timed func(func() error)) func() {
			return pullByCRI(b, h, image, timed)
		}},
		{"skopeo", func(b *testing.B, image string, timed func(func() error)) func() {
			return pullBySkopeo(b, skopeo, image, timed)
		}},
		{"containerd", peers.StartContainerd(b, h, peers.Options{}).Pull},
	}
	var columns []string
	reports := map[string]*report{}
	for _, image := range pulled {
		name := h.Registry.Push(b, fmt.Sprintf("bench/layers:%d", image.layers), layered(b, image.layers, image.size))
		// Each layer, the manifest and the configuration.
		requests := int64(image.layers + 2)
		for _, p := range contenders {
			b.Run(fmt.Sprintf("layers=%d/%s", image.layers, p.name), func(b *testing.B) {
				r := reports[p.name]
				if r == nil {
					r = &report{}
					columns, reports[p.name] = append(columns, p.name), r
				}
				for b.Loop() {
					b.StopTimer()
					before := h.Registry.Requests()
					undo := p.pull(b, name, func(call func() error) {
						b.StartTimer()
						err := r.time(image.name, call)
						b.StopTimer()
						if err != nil {
							b.Fatal(err)
						}
					})
					if n := h.Registry.Requests() - before; n < requests {
						b.Errorf("the registry saw %d requests, at least %d are in a cold pull", n, requests)
					}
					undo()
					b.StartTimer()
				}
				b.StopTimer()
				b.ReportMetric(milliseconds(r.medians()[image.name]), "median-ms")
			})
		}
	}
	// A choice of sub-benchmarks may leave out some, or all.
	if len(columns) > 0 {
		fmt.Fprint(os.Stdout, "\n"+table(columns, reports)+"\n")
	}
}

// pulled are the images that are pulled.
var pulled = []struct {
	name         string
	layers, size int
}{
	{"40 layers of 4 KiB", 40, 4 << 10},
	{"1 layer of 32 MiB", 1, 32 << 20},
}

// comparePulls pulls images on both over the CRI, and prints the table. An iteration is a pull on
// each. Each pull is cold.
//
// On an ext4 without a journal the figures grow with each iteration, and with all that was removed
// on the disk in the last minutes: the kernel passes over inodes just freed one by one, whenever a
// file is made (recently_deleted). That was up to half of the CPU time, on both sides.
func comparePulls(b *testing.B, peers []*peer) {
	table := &comparison{title: "PullImage; medians, and ratios of Stele to containerd, by image"}
	for _, image := range pulled {
		b.Run(fmt.Sprintf("layers=%d", image.layers), func(b *testing.B) {
			registry := peers[0].h.Registry
			name := registry.Push(b, fmt.Sprintf("bench/layers:%d", image.layers), layered(b, image.layers, image.size))
			works, reports := make([]work, len(peers)), make([]report, len(peers))
			for b.Loop() {
				for i, p := range peers {
					before := registry.Requests()
					var undo func()
					works[i].do(b, p, 1, 1, func(int) error {
						undo = pullByCRI(b, p.h, name, func(call func() error) {
							if err := reports[i].time(image.name, call); err != nil {
								b.Errorf("%s: %v", p.name, err)
							}
						})
						return nil
					})
					if n := registry.Requests() - before; n < int64(image.layers+2) {
						b.Errorf("the registry saw %d requests of %s, at least %d are in a cold pull", n, p.name, image.layers+2)
					}
					undo()
				}
			}
			ours, theirs := reports[0].medians()[image.name], reports[1].medians()[image.name]
			table.add("PullImage, ms", image.name, milliseconds(ours), milliseconds(theirs))
			table.add("CPU, ms", image.name, works[0].cpuEach(), works[1].cpuEach())
			b.ReportMetric(table.ratio("PullImage, ms", image.name), "pull-ratio")
			if ratio := table.ratio("PullImage, ms", image.name); ratio > 1 && image.layers > 1 {
				b.Logf("%s take %.2f of containerd's time; the goal is 1", image.name, ratio)
			}
		})
	}
	table.print()
}

// puller is one of those who are compared.
type puller struct {
	name string
	// pull pulls an image. Timed takes the time of the call that it is given; what is
	// returned undoes the pull.
	pull func(b *testing.B, image string, timed func(call func() error)) (undo func())
}

// layered makes an image of layers with a file of that many bytes each, which no
// compression makes smaller. Its digest is always the same.
func layered(b *testing.B, layers, size int) v1.Image {
	b.Helper()
	source := rand.NewChaCha8([32]byte{byte(layers)})
	spec := images.Spec{}
	for i := range layers {
		content := make([]byte, size)
		// It reads all, and has no errors.
		_, _ = source.Read(content)
		spec.Layers = append(spec.Layers, []images.File{{Path: fmt.Sprintf("file-%d", i), Mode: 0o644, Content: content}})
	}
	return images.Build(b, spec)
}

func pullByCRI(b *testing.B, h *e2e.Harness, name string, timed func(func() error)) (undo func()) {
	b.Helper()
	image := &runtimeapi.ImageSpec{Image: name}
	timed(func() error {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		defer cancel()
		_, err := h.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: image})
		return err
	})
	return func() {
		b.Helper()
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		defer cancel()
		if _, err := h.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: image}); err != nil {
			b.Fatalf("remove %s: %v", name, err)
		}
	}
}

func pullBySkopeo(b *testing.B, skopeo, name string, timed func(func() error)) (undo func()) {
	b.Helper()
	// Where the daemon's store is, too: another file system may be faster.
	dir, err := os.MkdirTemp("/var/tmp", "stele-bench-")
	if err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	undo = func() {
		b.Helper()
		// The overlay driver mounts its directory onto itself.
		if err := syscall.Unmount(filepath.Join(root, "overlay"), 0); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			b.Errorf("unmount skopeo's store: %v", err)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	}
	timed(func() error {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+name,
			fmt.Sprintf("containers-storage:[overlay@%s+%s]%s", root, filepath.Join(dir, "run"), name)).CombinedOutput()
		if err != nil {
			// The caller fails at once.
			undo()
			return fmt.Errorf("skopeo copy: %w: %s", err, out)
		}
		return nil
	})
	return undo
}
