package storage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	library "go.podman.io/storage"
)

// maxNames bounds the tags, and the digests, that are listed of one image.
const maxNames = 512

// Image is an image in the store. It is a shared snapshot: do not change what it
// points to.
type Image struct {
	// ID is 64 hexadecimal digits, the digest of the configuration.
	ID string
	// Names are the tagged names ("docker.io/library/busybox:latest"), sorted.
	Names []string
	// Digests are the names with a digest instead of a tag, one for each
	// repository and manifest by which the image can be asked for, sorted. An image
	// whose tag has moved on keeps them.
	Digests []string
	// Size is the sum of the layers, unpacked, and of the image's records, in bytes.
	Size uint64
	// User is what the configuration says about the user, unparsed: see RunsAs.
	User string
	// Annotations are those of an OCI manifest: of the platform's, not of an index.
	Annotations map[string]string
	// Config is the configuration. It is nil when it cannot be read; such an image
	// can be listed and removed, and no container can be made from it.
	Config *imagespec.Image
	// Pinned images are not to be garbage collected.
	Pinned bool
	// Created is when the image was built, or if it doesn't say, pulled.
	Created time.Time

	readOnly bool          // in an additional image store, which others own
	manifest digest.Digest // of which Config and Annotations were read
}

// imageIndex is what Images and Resolve answer from. It is never changed
// once published.
type imageIndex struct {
	version string // of the store's records, from which the index was made
	images  []Image
	byID    map[string]int
	byName  map[string]int // tagged names and digested names
}

// Images gives all images, sorted by id. While the store's records do not change
// it costs the read of one small file and no lock.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	index, err := s.currentIndex(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return slices.Clone(index.images), nil
}

func (s *Store) imageByID(ctx context.Context, id string) (Image, error) {
	index, err := s.currentIndex(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("look up image %s: %w", id, err)
	}
	i, ok := index.byID[id]
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w", id, ErrImageNotFound)
	}
	return index.images[i], nil
}

// currentIndex reloads the index if the records have changed.
//
// The order matters: the version is read first, the records after it. A writer
// marks its lock file, under the lock, before it writes the records; so records
// that are read after a version are at least as new as it, and the worst that can
// happen is one reload too many.
func (s *Store) currentIndex(ctx context.Context) (*imageIndex, error) {
	version, err := s.recordsVersion()
	if err != nil {
		return nil, err
	}
	if index := s.index.Load(); index != nil && index.version == version {
		return index, nil
	}
	if err := s.loading.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.loading.Release(1)
	if version, err = s.recordsVersion(); err != nil {
		return nil, err
	}
	if index := s.index.Load(); index != nil && index.version == version {
		return index, nil // another caller has loaded it meanwhile
	}
	index, err := s.loadIndex(ctx, version)
	if err != nil {
		return nil, err
	}
	s.index.Store(index)
	return index, nil
}

// recordsVersion reads the marks that the library leaves in the lock files of the
// image records at each write, by any process.
func (s *Store) recordsVersion() (string, error) {
	var version strings.Builder
	for _, root := range s.layout.imageRoots() {
		mark, err := os.ReadFile(filepath.Join(s.layout.records(root, "images"), "images.lock"))
		if err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("read the version of the image records: %w", err)
		}
		version.Write(mark)
		version.WriteByte('|')
	}
	return version.String(), nil
}

func (s *Store) loadIndex(ctx context.Context, version string) (*imageIndex, error) {
	records, err := s.lib.MultiList(library.MultiListOptions{Images: true, Layers: true})
	if err != nil {
		return nil, fmt.Errorf("read the image records: %w", err)
	}
	layers := make(map[string]*library.Layer, len(records.Layers))
	for i := range records.Layers {
		layers[records.Layers[i].ID] = &records.Layers[i]
	}
	known := s.index.Load()
	index := &imageIndex{version: version, byID: map[string]int{}, byName: map[string]int{}}
	for i := range records.Images {
		record := &records.Images[i]
		if _, twice := index.byID[record.ID]; twice {
			continue // also in an additional store: the first one counts
		}
		image := describe(record)
		image.Size = s.imageSize(record, layers)
		image.Pinned = s.pinned.match(image.Names...) || s.pinned.match(image.Digests...)
		if same, ok := known.unchanged(record); ok {
			image.Config, image.Annotations = same.Config, same.Annotations
		} else if image.Config, image.Annotations, err = s.readConfig(ctx, record); err != nil {
			s.log.Warn("an image's configuration cannot be read", "image", record.ID, "error", err)
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
	// A tag belongs to one image, a digest may be shared by images of several
	// platforms, so tags go last.
	for i, image := range index.images {
		for _, name := range image.Names {
			index.byName[name] = i
		}
	}
	return index, nil
}

// unchanged gives an image that an earlier index has read and that still has the same
// manifest, and hence the same configuration.
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

// describe gives what an image's record itself says.
func describe(record *library.Image) Image {
	image := Image{ID: record.ID, Created: record.Created, readOnly: record.ReadOnly, manifest: record.Digest}
	repositories := map[string]reference.Named{}
	digests := map[string]struct{}{}
	for _, name := range record.Names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue // another program's idea of a name; nobody can ask for it
		}
		repositories[named.Name()] = reference.TrimNamed(named)
		switch {
		case isDigested(named):
			digests[name] = struct{}{}
		case len(image.Names) < maxNames:
			image.Names = append(image.Names, name)
		}
	}
	if len(repositories) == 0 && len(record.NamesHistory) > 0 {
		// The newest name that the image had, so that it can still be told from others.
		if named, err := reference.ParseNormalizedNamed(record.NamesHistory[0]); err == nil {
			repositories[named.Name()] = reference.TrimNamed(named)
		}
	}
	manifests := slices.Clone(record.Digests)
	if record.Digest != "" {
		manifests = append(manifests, record.Digest)
	}
	for _, repository := range repositories {
		for _, manifest := range manifests {
			if canonical, err := reference.WithDigest(repository, manifest); err == nil {
				digests[canonical.String()] = struct{}{}
			}
		}
	}
	image.Digests = slices.Sorted(maps.Keys(digests))
	image.Digests = image.Digests[:min(len(image.Digests), maxNames)]
	slices.Sort(image.Names)
	return image
}

func isDigested(name reference.Named) bool {
	_, digested := name.(reference.Digested)
	return digested
}

// imageSize adds up what the records say. The library has to unpack and count a
// layer only if it was fetched in parts, where no record says how large it is.
func (s *Store) imageSize(record *library.Image, layers map[string]*library.Layer) uint64 {
	var size int64
	for _, bytes := range record.BigDataSizes {
		size += bytes
	}
	for id := record.TopLayer; id != ""; {
		layer, ok := layers[id]
		if !ok {
			break // damaged: recover has said so
		}
		if layer.UncompressedDigest == "" || layer.UncompressedSize < 0 {
			measured, err := s.lib.ImageSize(record.ID)
			if err != nil {
				s.log.Warn("an image's size cannot be computed", "image", record.ID, "error", err)
				break
			}
			return uint64(max(measured, 0))
		}
		size += layer.UncompressedSize
		id = layer.Parent
	}
	return uint64(max(size, 0))
}
