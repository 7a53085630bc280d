package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	library "go.podman.io/storage"
)

const (
	// usageCacheFile keeps the image layers' sizes over restarts, in the graph
	// root. It can be deleted at any time.
	usageCacheFile = "stele-usage.json"
	// maxUsageCacheSize bounds what is read of it, in bytes.
	maxUsageCacheSize = 16 << 20
	// rootfsUsageAge is for how long a container's usage is taken as known. The
	// kubelet asks every ten seconds, and a walk takes long.
	rootfsUsageAge = 15 * time.Second
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

// usage is what one layer takes on disk.
type usage struct {
	Bytes  uint64 `json:"bytes"`
	Inodes uint64 `json:"inodes"`
}

type measuredUsage struct {
	usage
	at time.Time
}

// usageCache remembers what layers take. An image's layer never changes, so it is
// walked once in its life; a container's is walked again when its figure is old.
// It is used by whoever holds Store.measuring.
type usageCache struct {
	path     string
	layers   map[string]usage
	rootfses map[string]measuredUsage
	dirty    bool
}

// FsInfo says how much disk the images and the containers' writable layers take: on
// two filesystems, possibly, if there is a separate image store.
// It is cheap to call often: a call walks only the image layers that are new since
// the last one, and containers whose figure is older than 15 seconds. Concurrent
// calls share one walk.
func (s *Store) FsInfo(ctx context.Context) (images, containers FsUsage, err error) {
	if err := s.measuring.Acquire(ctx, 1); err != nil {
		return FsUsage{}, FsUsage{}, fmt.Errorf("measure the image store: %w", err)
	}
	defer s.measuring.Release(1)
	records, err := s.lib.MultiList(library.MultiListOptions{Layers: true, Containers: true})
	if err != nil {
		return FsUsage{}, FsUsage{}, fmt.Errorf("measure the image store: read its records: %w", err)
	}
	writable := make(map[string]bool, len(records.Containers))
	for _, container := range records.Containers {
		writable[container.LayerID] = true
	}
	images = FsUsage{Path: s.layout.driverDir(s.layout.imageRoot), Timestamp: s.now()}
	containers = FsUsage{Path: s.layout.driverDir(s.layout.graphRoot), Timestamp: s.now()}
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
				return FsUsage{}, FsUsage{}, err
			}
			containers.add(used)
			continue
		}
		used, err := s.layerUsage(ctx, layer.ID)
		if err != nil {
			return FsUsage{}, FsUsage{}, err
		}
		images.add(measuredUsage{used, images.Timestamp})
	}
	if err := s.usage.keepOnly(present); err != nil {
		s.log.Warn("layer sizes cannot be kept", "error", err)
	}
	return images, containers, nil
}

// RootfsUsage says what a container's writable layer takes, at most 15 seconds ago.
// It fails with ErrRootfsNotFound.
func (s *Store) RootfsUsage(ctx context.Context, id string) (FsUsage, error) {
	if _, err := s.rootfsRecord(id); err != nil {
		return FsUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	if err := s.measuring.Acquire(ctx, 1); err != nil {
		return FsUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	defer s.measuring.Release(1)
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
	if used, known := s.usage.layers[id]; known {
		return used, nil
	}
	// Whichever root has the layer: images that were pulled before there was a
	// separate image store are still where they were.
	var used usage
	for _, root := range s.layout.writableRoots() {
		part, err := measure(ctx, s.layout.layerFiles(root, id))
		if err != nil {
			return usage{}, fmt.Errorf("measure layer %s: %w", id, err)
		}
		used.Bytes += part.Bytes
		used.Inodes += part.Inodes
	}
	s.usage.layers[id] = used
	s.usage.dirty = true
	return used, nil
}

func (s *Store) rootfsUsage(ctx context.Context, id string) (measuredUsage, error) {
	now := s.now()
	if used, known := s.usage.rootfses[id]; known && now.Sub(used.at) < rootfsUsageAge {
		return used, nil
	}
	used, err := measure(ctx, s.layout.layerFiles(s.layout.graphRoot, id))
	if err != nil {
		return measuredUsage{}, fmt.Errorf("measure root filesystem of %s: %w", id, err)
	}
	s.usage.rootfses[id] = measuredUsage{used, now}
	return s.usage.rootfses[id], nil
}

// measure walks a directory whose contents may be hostile and changing: it follows
// no links, cannot leave the directory, and what vanishes meanwhile doesn't count.
func measure(ctx context.Context, dir string) (usage, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return usage{}, nil // being removed
	}
	if err != nil {
		return usage{}, err
	}
	var used usage
	linked := map[uint64]bool{}
	err = fs.WalkDir(root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return vanished(err)
		}
		info, err := entry.Info()
		if err != nil {
			return vanished(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			if linked[stat.Ino] {
				return nil
			}
			linked[stat.Ino] = true
		}
		used.Inodes++
		used.Bytes += uint64(stat.Blocks) * 512
		return nil
	})
	return used, errors.Join(err, root.Close())
}

// vanished excuses what is normal while a container works: a file that is gone
// before it is looked at, or a directory that has become something else.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return err
}

// load reads the figures that an earlier process kept. What cannot be read is
// measured again.
func (c *usageCache) load(path string) {
	*c = usageCache{path: path, layers: map[string]usage{}, rootfses: map[string]measuredUsage{}}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxUsageCacheSize {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return
	}
	var layers map[string]usage
	if json.Unmarshal(content, &layers) == nil && layers != nil {
		c.layers = layers
	}
}

// keepOnly forgets layers that are gone and writes the rest if it has changed.
func (c *usageCache) keepOnly(present map[string]bool) error {
	for id := range c.layers {
		if !present[id] {
			delete(c.layers, id)
			c.dirty = true
		}
	}
	for id := range c.rootfses {
		if !present[id] {
			delete(c.rootfses, id)
		}
	}
	if !c.dirty {
		return nil
	}
	content, err := json.Marshal(c.layers)
	if err != nil {
		return fmt.Errorf("encode %s: %w", c.path, err)
	}
	next := c.path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, c.path); err != nil {
		return err
	}
	c.dirty = false
	return nil
}
