package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	library "go.podman.io/storage"
	"golang.org/x/sync/semaphore"
)

const (
	// rootfsUsageAge is how long a container's figure is fresh. The kubelet asks every ten
	// seconds, and a walk takes long. An older figure is still returned, and refreshed in
	// the background; Filesystems and Rootfs measure one older than rootfsUsageTooOld before
	// they answer.
	rootfsUsageAge    = time.Minute
	rootfsUsageTooOld = 5 * time.Minute
)

// Usage measures the disk space of images and containers.
type Usage struct {
	*disk
	cache     *usageCache
	measuring *semaphore.Weighted // one caller walks a layer, the others wait for it
	beside    *background
	refresh   *refresher
}

func newUsage(disk *disk) *Usage {
	u := &Usage{
		disk:      disk,
		cache:     loadUsageCache(filepath.Join(disk.layout.graphRoot, usageCacheFile)),
		measuring: semaphore.NewWeighted(1),
		beside:    newBackground(),
	}
	u.refresh = newRefresher(u.refreshRootfs)
	return u
}

// end ends the tasks beside the calls.
func (u *Usage) end() {
	u.beside.end()
	u.refresh.end()
}

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

// Filesystems returns the disk usage of images and of the containers' writable layers,
// which may be on two filesystems if there is a separate image store.
//
// It is cheap to call often: an image's layer is walked once, when its pull ends, and a
// container's in the background. A call waits only for figures that are missing, as after a
// start, and then shares the walk with others.
func (u *Usage) Filesystems(ctx context.Context) (images, containers FsUsage, err error) {
	fail := func(err error) (FsUsage, FsUsage, error) {
		return FsUsage{}, FsUsage{}, fmt.Errorf("measure the image store: %w", err)
	}
	records, err := u.lib.MultiList(library.MultiListOptions{Layers: true, Containers: true})
	if err != nil {
		return fail(fmt.Errorf("read its records: %w", err))
	}
	images = FsUsage{Path: u.layout.driverDir(u.layout.imageRoot), Timestamp: u.now()}
	containers = FsUsage{Path: u.layout.driverDir(u.layout.graphRoot), Timestamp: u.now()}
	names, err := u.recordNames()
	if err != nil {
		return fail(err)
	}
	writable := writableLayers(records)
	present := make(map[string]bool, len(records.Layers)+len(names))
	for _, name := range names {
		id := layerOf(name)
		present[id] = true
		used, err := u.rootfs(ctx, id)
		if err != nil {
			return fail(err)
		}
		containers.add(used)
	}
	for i := range records.Layers {
		layer := &records.Layers[i]
		if layer.ReadOnly {
			continue // in an additional store, on whatever filesystem that is
		}
		present[layer.ID] = true
		switch writable[layer.ID] {
		case heldLayer:
			continue // empty
		case usedLayer:
			used, err := u.rootfs(ctx, layer.ID)
			if err != nil {
				return fail(err)
			}
			containers.add(used)
		case imageLayer:
			used, err := u.layer(ctx, layer.ID)
			if err != nil {
				return fail(err)
			}
			images.add(measurement{used, images.Timestamp})
		}
	}
	if err := u.keep(ctx, present); err != nil {
		return fail(err)
	}
	return images, containers, nil
}

// layerUse is what a layer of the library is for.
type layerUse int

const (
	imageLayer layerUse = iota
	usedLayer           // a container writes there: another program's, or one of an earlier version
	heldLayer           // a hold's
)

func writableLayers(records library.MultiListResult) map[string]layerUse {
	writable := make(map[string]layerUse, len(records.Containers))
	for i := range records.Containers {
		writable[records.Containers[i].LayerID] = usedLayer
		if _, isHold := ownHold(&records.Containers[i]); isHold {
			writable[records.Containers[i].LayerID] = heldLayer
		}
	}
	return writable
}

// Rootfs returns the disk usage of a container's writable layer. It is as cheap as
// Filesystems, and fails with ErrRootfsNotFound.
func (u *Usage) Rootfs(ctx context.Context, id string) (FsUsage, error) {
	if _, err := u.rootfsRecord(id); err != nil {
		return FsUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	used, err := u.rootfs(ctx, id)
	if err != nil {
		return FsUsage{}, err
	}
	return u.rootfsUsage(used), nil
}

// LastRootfs returns what is known of a container's writable layer, and whether anything
// is. It never waits, and reads nothing: an old figure is refreshed in the background, and
// so is one that is missing, as after a start.
func (u *Usage) LastRootfs(id string) (FsUsage, bool) {
	used, isKnown, refresh := u.cache.last(id, u.now())
	if refresh {
		u.refresh.soon(id)
	}
	return u.rootfsUsage(used), isKnown
}

func (u *Usage) rootfsUsage(used measurement) FsUsage {
	return FsUsage{Path: u.layout.driverDir(u.layout.graphRoot), Bytes: used.Bytes, Inodes: used.Inodes, Timestamp: used.at}
}

func (f *FsUsage) add(used measurement) {
	f.Bytes += used.Bytes
	f.Inodes += used.Inodes
	if used.at.Before(f.Timestamp) {
		f.Timestamp = used.at
	}
}

func (u *Usage) layer(ctx context.Context, id string) (amount, error) {
	if used, known := u.cache.layer(id); known {
		return used, nil
	}
	if err := u.measuring.Acquire(ctx, 1); err != nil {
		return amount{}, fmt.Errorf("measure layer %s: %w", id, err)
	}
	defer u.measuring.Release(1)
	used, known := u.cache.layer(id)
	if known {
		return used, nil // another caller has measured it meanwhile
	}
	// Any root may have the layer: images that were pulled before there was a separate
	// image store stay where they were.
	for _, root := range u.layout.writableRoots() {
		part, err := measure(ctx, u.layout.layerFiles(root, id), atOnce)
		if err != nil {
			return amount{}, fmt.Errorf("measure layer %s: %w", id, err)
		}
		used.Bytes += part.Bytes
		used.Inodes += part.Inodes
	}
	u.cache.setLayer(id, used)
	return used, nil
}

func (u *Usage) rootfs(ctx context.Context, id string) (measurement, error) {
	now := u.now()
	used, state := u.cache.rootfs(id, now)
	switch state {
	case figureOld:
		u.refresh.soon(id)
	case figureMissing:
		if err := u.measuring.Acquire(ctx, 1); err != nil {
			return measurement{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
		}
		defer u.measuring.Release(1)
		if used, state := u.cache.rootfs(id, now); state == figureGood {
			return used, nil // another caller has measured it meanwhile
		}
		return u.measureRootfs(ctx, id, atOnce)
	case figureGood:
	}
	return used, nil
}

func (u *Usage) measureRootfs(ctx context.Context, id string, pace pace) (measurement, error) {
	at := u.now()
	used, err := measure(ctx, u.writableFiles(id), pace)
	if err != nil {
		return measurement{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	u.cache.setRootfs(id, measurement{used, at})
	return measurement{used, at}, nil
}

// writableFiles is the directory of a writable layer's own files, wherever it is.
func (u *Usage) writableFiles(id string) string {
	files := u.layout.layerFiles(u.layout.writableRoot(), id)
	if _, err := os.Lstat(files); err == nil {
		return files
	}
	return u.layout.layerFiles(u.layout.graphRoot, id)
}

// refreshRootfs measures a container's layer again, unless it is gone.
func (u *Usage) refreshRootfs(ctx context.Context, id string, pace pace) {
	defer u.cache.endRefresh(id)
	if _, err := os.Lstat(u.writableFiles(id)); errors.Is(err, fs.ErrNotExist) {
		u.cache.forgetRootfs(id)
		return
	}
	if _, err := u.measureRootfs(ctx, id, pace); err != nil && ctx.Err() == nil {
		u.log.Warn("a container's disk usage cannot be measured", "container", id, "error", err)
	}
}

// measureNew measures the layer of a new container, which is empty, so that its figure is
// there before anybody asks.
func (u *Usage) measureNew(id string) {
	if _, err := u.measureRootfs(context.Background(), id, atOnce); err != nil {
		u.log.Warn("a container's disk usage cannot be measured", "container", id, "error", err)
	}
}

// measureSoon measures a pull's layers in the background.
func (u *Usage) measureSoon() { u.beside.do(u.measureNewLayers) }

// measureNewLayers measures a pull's layers, so that Filesystems need not.
func (u *Usage) measureNewLayers(ctx context.Context) {
	records, err := u.lib.MultiList(library.MultiListOptions{Layers: true, Containers: true})
	if err != nil {
		return // Filesystems will report it
	}
	writable := writableLayers(records)
	for i := range records.Layers {
		layer := &records.Layers[i]
		if layer.ReadOnly || writable[layer.ID] != imageLayer {
			continue
		}
		if _, err := u.layer(ctx, layer.ID); err != nil {
			return
		}
	}
}

// keep forgets layers that are gone, and saves the other figures for the next start.
func (u *Usage) keep(ctx context.Context, present map[string]bool) error {
	if !u.cache.keepOnly(present) {
		return nil
	}
	if err := u.measuring.Acquire(ctx, 1); err != nil {
		return err
	}
	defer u.measuring.Release(1)
	if err := u.cache.write(); err != nil {
		u.log.Warn("layer sizes cannot be kept", "error", err)
	}
	return nil
}
