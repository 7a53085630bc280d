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

// disturbPause lies between two things of a kind that happen to the images meanwhile.
var disturbPause = map[bool]time.Duration{false: 20 * time.Millisecond, true: 300 * time.Millisecond}[underRace]

// Pulls, removals, and containers and volumes of the same two images, which share a
// layer, at the same time. Whatever comes first, a container that was made has its
// files until it is released, and its image is in the store as long.
func TestImagesNeverVanishUnderContainers(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	s := open(t, dirs(t))
	base := []images.File{{Path: "base", Mode: 0o644, Content: []byte("base")}}
	var refs, ids []string
	for i := range 2 {
		image := images.Build(t, images.Spec{
			Config: v1.Config{Labels: map[string]string{"i": fmt.Sprint(i)}},
			Layers: [][]images.File{base, {{Path: "file", Mode: 0o644, Content: []byte(fmt.Sprint("content ", i))}}},
		})
		config, err := image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, server.Push(t, fmt.Sprintf("app%d:v1", i), image))
		ids = append(ids, config.Hex)
	}

	var lived, withVolume, pulled, disturbed atomic.Int64
	fetch := func(i int, as string) error {
		end, err := s.Images.BeginPull(ctx)
		if err != nil {
			return err
		}
		defer end(nil)
		for {
			removals := s.Images.Removals()
			_, err := tryPull(ctx, s, server.RegistriesConf, server.RegistriesConfDir, refs[i], refs[i]+"-"+as)
			if err != nil && s.Images.Removals() != removals {
				disturbed.Add(1)
				continue
			}
			pulled.Add(1)
			return err
		}
	}
	// live is what one worker does for a container of image i.
	live := func(container string, i int) error {
		rootfs, err := s.Rootfses.Prepare(ctx, RootfsRequest{ContainerID: container, ImageID: ids[i]})
		if errors.Is(err, ErrImageNotFound) {
			return errors.Join(s.Rootfses.Release(ctx, container), fetch(i, container[:8]))
		}
		if err != nil {
			return err
		}
		volume, volumeErr := s.Volumes.MountImage(ctx, MountImageRequest{ID: VolumeID(container, 0), Image: ids[1-i]})
		if volumeErr != nil && !errors.Is(volumeErr, ErrImageNotFound) {
			return volumeErr
		}
		err = s.Images.Remove(ctx, ids[i])
		if !errors.Is(err, ErrImageInUse) {
			return fmt.Errorf("removing the image of a container: %w", err)
		}
		files := map[string]string{
			filepath.Join(rootfs.Mountpoint, "base"): "base",
			filepath.Join(rootfs.Mountpoint, "file"): fmt.Sprint("content ", i),
		}
		if volumeErr == nil {
			withVolume.Add(1)
			files[filepath.Join(volume, "file")] = fmt.Sprint("content ", 1-i)
		}
		for path, want := range files {
			if content, err := os.ReadFile(path); err != nil || string(content) != want {
				return fmt.Errorf("%s of a live container is %q, %w", path, content, err)
			}
		}
		if _, err := s.Images.Resolve(ctx, ids[i]); err != nil {
			return fmt.Errorf("the image of a live container: %w", err)
		}
		lived.Add(1)
		return s.Rootfses.Release(ctx, container)
	}
	disturbers := []func(random *rand.Rand, worker int) error{
		func(random *rand.Rand, worker int) error { // pulls
			return fetch(random.Intn(len(refs)), fmt.Sprint(worker))
		},
		func(random *rand.Rand, worker int) error { // removes
			i := random.Intn(len(refs))
			err := s.Images.Remove(ctx, []string{ids[i], refs[i], fmt.Sprintf("%s-%d", refs[i], random.Intn(8))}[random.Intn(3)])
			if errors.Is(err, ErrImageInUse) {
				return nil
			}
			return err
		},
		func(random *rand.Rand, _ int) error { // collects what others have just left
			_, err := s.Images.CollectOrphans(ctx, 0)
			return err
		},
	}
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
				return live(id(fmt.Sprint(worker)), random.Intn(len(refs)))
			})
		})
	}
	var done atomic.Bool
	for number, disturb := range disturbers {
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
		lived.Load(), withVolume.Load(), pulled.Load(), disturbed.Load())
	if lived.Load() == 0 {
		t.Error("no container ever lived: nothing was tested")
	}

	for _, image := range ids {
		if err := s.Images.Remove(ctx, image); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Images.CollectOrphans(ctx, 0); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s)
}
