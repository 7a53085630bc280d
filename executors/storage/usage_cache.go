package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// usageCacheFile keeps the image layers' sizes over restarts, in the graph
	// root. It can be deleted at any time.
	usageCacheFile = "stele-usage.json"
	// maxUsageCacheSize bounds what is read of it, in bytes.
	maxUsageCacheSize = 16 << 20
)

// amount is what one layer takes on disk.
type amount struct {
	Bytes  uint64 `json:"bytes"`
	Inodes uint64 `json:"inodes"`
}

type measurement struct {
	amount
	at time.Time
}

// usageCache remembers what layers take. An image's layer never changes, so it is
// walked once in its life; a container's is walked again when its figure is old.
type usageCache struct {
	path string

	mu         sync.Mutex // not held during measuring or I/O
	layers     map[string]amount
	rootfses   map[string]measurement
	refreshing map[string]bool // containers that are being refreshed
	dirty      bool            // the file lacks some figures, or has too many
}

// figure is the state of a container's figure.
type figure int

const (
	figureMissing figure = iota // or too old
	figureOld                   // the caller must refresh it, and call endRefresh
	figureGood                  // or being refreshed already
)

func (c *usageCache) layer(id string) (amount, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used, known := c.layers[id]
	return used, known
}

func (c *usageCache) setLayer(id string, used amount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.layers[id], c.dirty = used, true
}

func (c *usageCache) rootfs(id string, now time.Time) (measurement, figure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used, known := c.rootfses[id]
	age := now.Sub(used.at)
	switch {
	case !known:
		return measurement{}, figureMissing
	case age < rootfsUsageAge, c.refreshing[id]:
		return used, figureGood
	case age >= rootfsUsageTooOld:
		return measurement{}, figureMissing
	}
	c.refreshing[id] = true
	return used, figureOld
}

// last returns a container's figure however old it is, and whether the caller must refresh
// it, and then call endRefresh.
func (c *usageCache) last(id string, now time.Time) (used measurement, isKnown, refresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used, isKnown = c.rootfses[id]
	refresh = !c.refreshing[id] && (!isKnown || now.Sub(used.at) >= rootfsUsageAge)
	if refresh {
		c.refreshing[id] = true
	}
	return used, isKnown, refresh
}

func (c *usageCache) forgetRootfs(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rootfses, id)
}

func (c *usageCache) endRefresh(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refreshing, id)
}

func (c *usageCache) setRootfs(id string, used measurement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if used.at.After(c.rootfses[id].at) {
		c.rootfses[id] = used
	}
}

// loadUsageCache reads the figures that an earlier process kept. What cannot be read is
// measured again.
func loadUsageCache(path string) *usageCache {
	c := &usageCache{
		path:       path,
		layers:     map[string]amount{},
		rootfses:   map[string]measurement{},
		refreshing: map[string]bool{},
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxUsageCacheSize {
		return c
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return c
	}
	var layers map[string]amount
	if json.Unmarshal(content, &layers) == nil && layers != nil {
		c.layers = layers
	}
	return c
}

// keepOnly forgets layers that are gone, and reports whether there is something to write.
func (c *usageCache) keepOnly(present map[string]bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	return c.dirty
}

// write writes the image layers' figures, if they have changed. Only one caller at a
// time may do so.
func (c *usageCache) write() error {
	content, err := c.encode()
	if err != nil || content == nil {
		return err
	}
	next := c.path + ".new"
	if err = os.WriteFile(next, content, 0o600); err == nil {
		err = os.Rename(next, c.path)
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dirty = true
	}
	return err
}

// encode returns the file's new content, or nil if it is up to date.
func (c *usageCache) encode() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil, nil
	}
	content, err := json.Marshal(c.layers)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.path, err)
	}
	c.dirty = false
	return content, nil
}

// measure walks a directory whose contents may be hostile and changing: it follows no
// links, cannot leave the directory, and ignores what vanishes meanwhile. After each entry
// it calls pace.
func measure(ctx context.Context, dir string, pace pace) (amount, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return amount{}, nil // being removed
	}
	if err != nil {
		return amount{}, err
	}
	var used amount
	linked := map[uint64]bool{}
	err = fs.WalkDir(root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if err := pace(ctx); err != nil {
			return err
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

// vanished ignores what is normal while a container works: a file that is gone before it is
// read, or a directory that has become something else.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return err
}
