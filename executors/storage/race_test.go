package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

// raceRounds is how many containers each worker makes, one after the other.
var raceRounds = map[bool]int{false: 8, true: 3}[underRace]

// disturbPause is the pause between two disturbances of a kind.
var disturbPause = map[bool]time.Duration{false: 20 * time.Millisecond, true: 300 * time.Millisecond}[underRace]

// Pulls, removals, and containers and volumes of the same two images, which share a layer,
// at the same time. In any order, a container has its files until it is released, and its
// image is in the store as long.
func TestImagesNeverVanishUnderContainers(t *testing.T) {
	ctx := context.Background()
	r := newRace(t)
	work := func(number int, goOn func(round int) bool, do func(random *rand.Rand, worker int) error) {
		random := rand.New(rand.NewSource(int64(number)))
		for round := 0; goOn(round); round++ {
			if err := do(random, number); err != nil {
				t.Errorf("worker %d: %v", number, err)
				return
			}
		}
	}
	var living, disturbing sync.WaitGroup
	for number := range 5 {
		living.Go(func() {
			work(100+number, func(round int) bool { return round < raceRounds }, func(random *rand.Rand, worker int) error {
				return r.live(ctx, id(fmt.Sprint(worker)), random.Intn(len(r.refs)))
			})
		})
	}
	var done atomic.Bool
	for number, disturb := range r.disturbers(ctx) {
		disturbing.Go(func() {
			work(number, func(int) bool {
				// Not so often that nothing ever gets done.
				time.Sleep(disturbPause)
				return !done.Load()
			}, disturb)
		})
	}
	living.Wait()
	done.Store(true)
	disturbing.Wait()
	t.Logf("%d containers lived, %d with a volume; %d pulls succeeded, %d were disturbed",
		r.lived.Load(), r.withVolume.Load(), r.pulled.Load(), r.disturbed.Load())
	if r.lived.Load() == 0 {
		t.Error("no container ever lived: nothing was tested")
	}

	for _, image := range r.ids {
		if err := r.s.Images.Remove(ctx, image); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.s.Images.CollectOrphans(ctx, 0); err != nil {
		t.Error(err)
	}
	expectEmpty(t, r.s)
}

// A race is a store, two images for it, and a count of what happened.
type race struct {
	s         *Store
	server    *images.Server
	refs, ids []string // of the images

	lived, withVolume, pulled, disturbed atomic.Int64
}

func newRace(t *testing.T) *race {
	r := &race{s: open(t, dirs(t)), server: images.Registry(t)}
	base := []images.File{{Path: "base", Mode: 0o644, Content: []byte("base")}}
	for i := range 2 {
		image := images.Build(t, images.Spec{
			Config: v1.Config{Labels: map[string]string{"i": fmt.Sprint(i)}},
			Layers: [][]images.File{base, {{Path: "file", Mode: 0o644, Content: []byte(fmt.Sprint("content ", i))}}},
		})
		config, err := image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		r.refs = append(r.refs, r.server.Push(t, fmt.Sprintf("app%d:v1", i), image))
		r.ids = append(r.ids, config.Hex)
	}
	return r
}

// fetch pulls image i under a name, and again if it lost layers to a removal.
func (r *race) fetch(ctx context.Context, i int, as string) error {
	end, err := r.s.Images.BeginPull(ctx)
	if err != nil {
		return err
	}
	defer end(nil)
	for {
		removals := r.s.Images.Removals()
		_, err := tryPull(ctx, r.s, registriesOf(r.server), r.refs[i], r.refs[i]+"-"+as)
		if err != nil && r.s.Images.RemovedSince(removals) {
			r.disturbed.Add(1)
			continue
		}
		r.pulled.Add(1)
		return err
	}
}

// live is the life of a container of image i.
func (r *race) live(ctx context.Context, container string, i int) error {
	rootfs, err := r.s.Rootfses.Prepare(ctx, RootfsRequest{ContainerID: container, ImageID: r.ids[i]})
	if errors.Is(err, ErrImageNotFound) {
		return errors.Join(r.s.Rootfses.Release(ctx, container), r.fetch(ctx, i, container[:8]))
	}
	if err != nil {
		return err
	}
	volume, volumeErr := r.s.Volumes.MountImage(ctx, MountImageRequest{ID: VolumeID(container, 0), Image: r.ids[1-i]})
	if volumeErr != nil && !errors.Is(volumeErr, ErrImageNotFound) {
		return volumeErr
	}
	err = r.s.Images.Remove(ctx, r.ids[i])
	if !errors.Is(err, ErrImageInUse) {
		return fmt.Errorf("removing the image of a container: %w", err)
	}
	files := map[string]string{
		filepath.Join(rootfs.Mountpoint, "base"): "base",
		filepath.Join(rootfs.Mountpoint, "file"): fmt.Sprint("content ", i),
	}
	if volumeErr == nil {
		r.withVolume.Add(1)
		files[filepath.Join(volume, "file")] = fmt.Sprint("content ", 1-i)
	}
	for path, want := range files {
		if content, err := os.ReadFile(path); err != nil || string(content) != want {
			return fmt.Errorf("%s of a live container is %q, %w", path, content, err)
		}
	}
	if _, err := r.s.Images.Resolve(ctx, r.ids[i]); err != nil {
		return fmt.Errorf("the image of a live container: %w", err)
	}
	r.lived.Add(1)
	return r.s.Rootfses.Release(ctx, container)
}

// disturbers change the images meanwhile.
func (r *race) disturbers(ctx context.Context) []func(random *rand.Rand, worker int) error {
	return []func(random *rand.Rand, worker int) error{
		func(random *rand.Rand, worker int) error { // pulls
			return r.fetch(ctx, random.Intn(len(r.refs)), fmt.Sprint(worker))
		},
		func(random *rand.Rand, _ int) error { // removes
			i := random.Intn(len(r.refs))
			err := r.s.Images.Remove(ctx, []string{r.ids[i], r.refs[i], fmt.Sprintf("%s-%d", r.refs[i], random.Intn(8))}[random.Intn(3)])
			if errors.Is(err, ErrImageInUse) {
				return nil
			}
			return err
		},
		func(random *rand.Rand, _ int) error { // collects what others have just left
			_, err := r.s.Images.CollectOrphans(ctx, 0)
			return err
		},
	}
}
