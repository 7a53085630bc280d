package storage

import (
	"context"
	"fmt"
	"time"

	library "go.podman.io/storage"
)

const (
	// rootfsUsageAge is for how long a container's figure is taken as it is. The
	// kubelet asks every ten seconds, and a walk takes long. An older one is told all
	// the same, and measured anew beside the call; one that is older than
	// rootfsUsageTooOld, which nobody has asked for in a while, is measured first.
	rootfsUsageAge    = 15 * time.Second
	rootfsUsageTooOld = time.Minute
)

// FsUsage is how much of a filesystem is used for one purpose.
type FsUsage struct {
	// Path is a directory on the filesystem.
	Path string
	// Bytes is what the files take on disk; Inodes counts files, directories and
	// links, hard links once.
	Bytes, Inodes uint64
	// Timestamp is when the oldest part of the sum was measured.
	Timestamp time.Time
}

// FsInfo says how much disk the images and the containers' writable layers take: on
// two filesystems, possibly, if there is a separate image store.
//
// It is cheap to call often: what a layer takes is walked once, when its pull ends, and
// what a container takes beside the calls. A call waits only for figures that there are
// none of yet, as after a start, and then shares the walk with others.
func (s *Store) FsInfo(ctx context.Context) (images, containers FsUsage, err error) {
	fail := func(err error) (FsUsage, FsUsage, error) {
		return FsUsage{}, FsUsage{}, fmt.Errorf("measure the image store: %w", err)
	}
	records, err := s.lib.MultiList(library.MultiListOptions{Layers: true, Containers: true})
	if err != nil {
		return fail(fmt.Errorf("read its records: %w", err))
	}
	images = FsUsage{Path: s.layout.driverDir(s.layout.imageRoot), Timestamp: s.now()}
	containers = FsUsage{Path: s.layout.driverDir(s.layout.graphRoot), Timestamp: s.now()}
	writable := writableLayers(records)
	present := make(map[string]bool, len(records.Layers))
	for i := range records.Layers {
		layer := &records.Layers[i]
		if layer.ReadOnly {
			continue // in an additional store, on whatever filesystem that is
		}
		present[layer.ID] = true
		if writable[layer.ID] {
			used, err := s.rootfsUsage(ctx, layer.ID)
			if err != nil {
				return fail(err)
			}
			containers.add(used)
			continue
		}
		used, err := s.layerUsage(ctx, layer.ID)
		if err != nil {
			return fail(err)
		}
		images.add(measuredUsage{used, images.Timestamp})
	}
	if err := s.keepUsage(ctx, present); err != nil {
		return fail(err)
	}
	return images, containers, nil
}

func writableLayers(records library.MultiListResult) map[string]bool {
	writable := make(map[string]bool, len(records.Containers))
	for _, container := range records.Containers {
		writable[container.LayerID] = true
	}
	return writable
}

// RootfsUsage says what a container's writable layer takes, as of the time that it
// tells. It is as cheap as FsInfo. It fails with ErrRootfsNotFound.
func (s *Store) RootfsUsage(ctx context.Context, id string) (FsUsage, error) {
	if _, err := s.rootfsRecord(id); err != nil {
		return FsUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	used, err := s.rootfsUsage(ctx, id)
	if err != nil {
		return FsUsage{}, err
	}
	return FsUsage{
		Path:      s.layout.driverDir(s.layout.graphRoot),
		Bytes:     used.Bytes,
		Inodes:    used.Inodes,
		Timestamp: used.at,
	}, nil
}

func (f *FsUsage) add(used measuredUsage) {
	f.Bytes += used.Bytes
	f.Inodes += used.Inodes
	if used.at.Before(f.Timestamp) {
		f.Timestamp = used.at
	}
}

func (s *Store) layerUsage(ctx context.Context, id string) (usage, error) {
	if used, known := s.usage.layer(id); known {
		return used, nil
	}
	if err := s.measuring.Acquire(ctx, 1); err != nil {
		return usage{}, fmt.Errorf("measure layer %s: %w", id, err)
	}
	defer s.measuring.Release(1)
	used, known := s.usage.layer(id)
	if known {
		return used, nil // another caller has measured it meanwhile
	}
	// Whichever root has the layer: images that were pulled before there was a
	// separate image store are still where they were.
	for _, root := range s.layout.writableRoots() {
		part, err := measure(ctx, s.layout.layerFiles(root, id))
		if err != nil {
			return usage{}, fmt.Errorf("measure layer %s: %w", id, err)
		}
		used.Bytes += part.Bytes
		used.Inodes += part.Inodes
	}
	s.usage.setLayer(id, used)
	return used, nil
}

func (s *Store) rootfsUsage(ctx context.Context, id string) (measuredUsage, error) {
	now := s.now()
	used, state := s.usage.rootfs(id, now)
	switch state {
	case figureOld:
		s.beside.do(func(closing context.Context) {
			defer s.usage.endRefresh(id)
			if _, err := s.measureRootfs(closing, id, now); err != nil && closing.Err() == nil {
				s.log.Warn("a container's disk usage cannot be measured", "container", id, "error", err)
			}
		})
	case figureMissing:
		if err := s.measuring.Acquire(ctx, 1); err != nil {
			return measuredUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
		}
		defer s.measuring.Release(1)
		if used, state := s.usage.rootfs(id, now); state == figureGood {
			return used, nil // another caller has measured it meanwhile
		}
		return s.measureRootfs(ctx, id, now)
	case figureGood:
	}
	return used, nil
}

func (s *Store) measureRootfs(ctx context.Context, id string, now time.Time) (measuredUsage, error) {
	used, err := measure(ctx, s.layout.layerFiles(s.layout.graphRoot, id))
	if err != nil {
		return measuredUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	s.usage.setRootfs(id, measuredUsage{used, now})
	return measuredUsage{used, now}, nil
}

// measureNewLayers measures what a pull has brought, so that FsInfo need not.
func (s *Store) measureNewLayers(ctx context.Context) {
	records, err := s.lib.MultiList(library.MultiListOptions{Layers: true, Containers: true})
	if err != nil {
		return // FsInfo will say so
	}
	writable := writableLayers(records)
	for i := range records.Layers {
		layer := &records.Layers[i]
		if layer.ReadOnly || writable[layer.ID] {
			continue
		}
		if _, err := s.layerUsage(ctx, layer.ID); err != nil {
			return
		}
	}
}

// keepUsage forgets layers that are gone, and keeps the others' figures for the next
// start.
func (s *Store) keepUsage(ctx context.Context, present map[string]bool) error {
	if !s.usage.keepOnly(present) {
		return nil
	}
	if err := s.measuring.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.measuring.Release(1)
	if err := s.usage.write(); err != nil {
		s.log.Warn("layer sizes cannot be kept", "error", err)
	}
	return nil
}
