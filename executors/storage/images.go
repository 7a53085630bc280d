package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	library "go.podman.io/storage"
)

// Images are the images in a store: their names and configurations, and what a pull needs.
type Images struct {
	*disk
	catalog     *catalog
	shortNames  func(name string) ([]string, error)
	orphanGrace time.Duration
	usage       *Usage
	holds       *holds

	pulls    gate
	removals removals
}

// maxNames bounds the tags, and the digests, listed for one image.
const maxNames = 512

// Image is an image in the store. It is a shared snapshot: do not change what it
// points to.
type Image struct {
	// ID is 64 hexadecimal digits, the digest of the configuration.
	ID string
	// Names are the tagged names ("docker.io/library/busybox:latest"), sorted.
	Names []string
	// Digests are the names with a digest instead of a tag, one for each repository and
	// manifest of the image, sorted. An image whose tag has moved on keeps them.
	Digests []string
	// Size is the sum of the layers, unpacked, and of the image's records, in bytes.
	Size uint64
	// User is the user in the configuration, unparsed: see RunsAs.
	User string
	// Annotations are those of the platform's OCI manifest, not of an index.
	Annotations map[string]string
	// Config is the configuration. It is nil when it cannot be read: such an image can be
	// listed and removed, but not run.
	Config *imagespec.Image
	// Pinned images are not to be garbage collected.
	Pinned bool
	// Created is when the image was built, or if unknown, pulled.
	Created time.Time

	readOnly bool          // in an additional image store, which others own
	manifest digest.Digest // of which Config and Annotations were read
}

// List returns all images, sorted by id. While the store's records do not change, it reads
// one small file and takes no lock.
func (m *Images) List(ctx context.Context) ([]Image, error) {
	index, err := m.catalog.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return slices.Clone(index.images), nil
}

func (m *Images) byID(ctx context.Context, id string) (Image, error) {
	index, err := m.catalog.current(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("look up image %s: %w", id, err)
	}
	i, ok := index.byID[id]
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w", id, ErrImageNotFound)
	}
	return index.images[i], nil
}

// describe returns what an image's record itself says.
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
		// The newest name that the image had tells it from others.
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

// Reference returns the place of an image called name in this store, to which the image
// library can copy.
func (m *Images) Reference(name reference.Named) (imagetypes.ImageReference, error) {
	ref, err := istorage.Transport.NewStoreReference(m.lib, name, "")
	if err != nil {
		return nil, fmt.Errorf("name image %s in the store: %w", name, err)
	}
	return ref, nil
}

// ReferenceByID returns the place of an image in this store, by its id. Its signatures are
// those that the last pull of it found.
func (m *Images) ReferenceByID(id string) (imagetypes.ImageReference, error) {
	ref, err := istorage.Transport.NewStoreReference(m.lib, nil, id)
	if err != nil {
		return nil, fmt.Errorf("name image %s in the store: %w", id, err)
	}
	return ref, nil
}

// ImageIDAt returns the id of the image behind a reference of this store, as a finished
// copy reports it.
func (m *Images) ImageIDAt(ctx context.Context, ref imagetypes.ImageReference) (string, error) {
	_, record, err := istorage.ResolveReference(ref)
	if err != nil {
		return "", fmt.Errorf("find image %s: %w", ref.StringWithinTransport(), err)
	}
	return record.ID, ctx.Err()
}
