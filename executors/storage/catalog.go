package storage

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	library "go.podman.io/storage"
	"golang.org/x/sync/semaphore"
)

// A catalog knows the images that the store has, and rereads their records when they have
// changed.
type catalog struct {
	*disk
	pinned pinnedPatterns

	known   atomic.Pointer[imageIndex]
	loading *semaphore.Weighted // one caller reloads the index, the others wait for it
}

func newCatalog(disk *disk, pinned pinnedPatterns) *catalog {
	return &catalog{disk: disk, pinned: pinned, loading: semaphore.NewWeighted(1)}
}

// imageIndex is what Images answers from. It is never changed
// once published.
type imageIndex struct {
	version string // of the store's records, from which the index was made
	images  []Image
	byID    map[string]int
	byName  map[string]int // tagged names and digested names
}

// current reloads the index if the records have changed.
//
// The order matters: the version is read first, the records after it. A writer
// marks its lock file, under the lock, before it writes the records; so records
// that are read after a version are at least as new as it, and the worst that can
// happen is one reload too many.
func (c *catalog) current(ctx context.Context) (*imageIndex, error) {
	version, err := c.version()
	if err != nil {
		return nil, err
	}
	if index := c.known.Load(); index != nil && index.version == version {
		return index, nil
	}
	if err := c.loading.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer c.loading.Release(1)
	if version, err = c.version(); err != nil {
		return nil, err
	}
	if index := c.known.Load(); index != nil && index.version == version {
		return index, nil // another caller has loaded it meanwhile
	}
	index, err := c.load(ctx, version)
	if err != nil {
		return nil, err
	}
	c.known.Store(index)
	return index, nil
}

// version reads the marks that the library leaves in the lock files of the
// image records at each write, by any process.
func (c *catalog) version() (string, error) {
	var version strings.Builder
	for _, root := range c.layout.imageRoots() {
		mark, err := os.ReadFile(filepath.Join(c.layout.records(root, "images"), "images.lock"))
		if err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("read the version of the image records: %w", err)
		}
		version.Write(mark)
		version.WriteByte('|')
	}
	return version.String(), nil
}

func (c *catalog) load(ctx context.Context, version string) (*imageIndex, error) {
	records, err := c.lib.MultiList(library.MultiListOptions{Images: true, Layers: true})
	if err != nil {
		return nil, fmt.Errorf("read the image records: %w", err)
	}
	layers := make(map[string]*library.Layer, len(records.Layers))
	for i := range records.Layers {
		layers[records.Layers[i].ID] = &records.Layers[i]
	}
	known := c.known.Load()
	index := &imageIndex{version: version, byID: map[string]int{}, byName: map[string]int{}}
	for i := range records.Images {
		record := &records.Images[i]
		if _, twice := index.byID[record.ID]; twice {
			continue // also in an additional store: the first one counts
		}
		image := describe(record)
		image.Size = c.size(record, layers)
		image.Pinned = c.pinned.match(image.Names...) || c.pinned.match(image.Digests...)
		if same, ok := known.unchanged(record); ok {
			image.Config, image.Annotations = same.Config, same.Annotations
		} else if image.Config, image.Annotations, err = c.config(ctx, record); err != nil {
			c.log.Warn("an image's configuration cannot be read", "image", record.ID, "error", err)
		}
		if image.Config != nil {
			image.User = image.Config.Config.User
			if image.Config.Created != nil {
				image.Created = *image.Config.Created
			}
		}
		index.byID[image.ID] = 0
		index.images = append(index.images, image)
	}
	slices.SortFunc(index.images, func(a, b Image) int { return cmp.Compare(a.ID, b.ID) })
	for i, image := range index.images {
		index.byID[image.ID] = i
		for _, name := range image.Digests {
			index.byName[name] = i
		}
	}
	// Tags go last: a tag belongs to one image, while images of several platforms may share
	// a digest.
	for i, image := range index.images {
		for _, name := range image.Names {
			index.byName[name] = i
		}
	}
	return index, nil
}

// unchanged returns an image of an earlier index that still has the same manifest, and
// hence the same configuration.
func (x *imageIndex) unchanged(record *library.Image) (Image, bool) {
	if x == nil {
		return Image{}, false
	}
	i, ok := x.byID[record.ID]
	if !ok || x.images[i].Config == nil || x.images[i].manifest != record.Digest {
		return Image{}, false
	}
	return x.images[i], true
}

// size adds up what the records say. Only of a layer that was fetched in parts no record
// has the size: the library must unpack and count it.
func (c *catalog) size(record *library.Image, layers map[string]*library.Layer) uint64 {
	var size int64
	for _, bytes := range record.BigDataSizes {
		size += bytes
	}
	for id := record.TopLayer; id != ""; {
		layer, ok := layers[id]
		if !ok {
			break // damaged: recover has logged it
		}
		if layer.UncompressedDigest == "" || layer.UncompressedSize < 0 {
			measured, err := c.lib.ImageSize(record.ID)
			if err != nil {
				c.log.Warn("an image's size cannot be computed", "image", record.ID, "error", err)
				break
			}
			return uint64(max(measured, 0))
		}
		size += layer.UncompressedSize
		id = layer.Parent
	}
	return uint64(max(size, 0))
}
