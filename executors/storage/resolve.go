package storage

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

var (
	wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// partOfID is what is accepted as an id prefix; three digits is CRI-O's minimum.
	partOfID = regexp.MustCompile(`^[0-9a-f]{3,63}$`)
)

// A match is an image, and how a reference led to it.
type match struct {
	image Image
	name  reference.Named // nil when the reference was an id
}

// Resolve finds the image that a user means. In this order: an id (with or without
// "sha256:"); a name, completed as the container tools do (without a registry by
// Options.ShortNames, without a tag with "latest", and of name:tag@digest only the digest
// counts); an id prefix. It fails with ErrImageNotFound or ErrInvalidReference.
//
// A name beats an id prefix, so that nobody can hide an image called "cafe" by pushing one
// whose id begins so.
func (m *Images) Resolve(ctx context.Context, ref string) (Image, error) {
	found, err := m.resolve(ctx, ref)
	return found.image, err
}

func (m *Images) resolve(ctx context.Context, ref string) (match, error) {
	index, err := m.catalog.current(ctx)
	if err != nil {
		return match{}, fmt.Errorf("look up image %q: %w", ref, err)
	}
	if id := strings.TrimPrefix(ref, "sha256:"); wholeID.MatchString(id) {
		if i, ok := index.byID[id]; ok {
			return match{image: index.images[i]}, nil
		}
		return match{}, fmt.Errorf("image %q: %w", ref, ErrImageNotFound)
	}
	names, err := m.completeName(ref)
	if err != nil && !partOfID.MatchString(ref) {
		return match{}, fmt.Errorf("image %q: %w: %w", ref, ErrInvalidReference, err)
	}
	for _, name := range names {
		if i, ok := index.byName[name.String()]; ok {
			return match{image: index.images[i], name: name}, nil
		}
	}
	if partOfID.MatchString(ref) {
		return index.byPartOfID(ref)
	}
	return match{}, fmt.Errorf("image %q: %w", ref, ErrImageNotFound)
}

func (x *imageIndex) byPartOfID(part string) (match, error) {
	first, _ := slices.BinarySearchFunc(x.images, part, func(image Image, part string) int {
		return strings.Compare(image.ID, part)
	})
	if first == len(x.images) || !strings.HasPrefix(x.images[first].ID, part) {
		return match{}, fmt.Errorf("image %q: %w", part, ErrImageNotFound)
	}
	if next := first + 1; next < len(x.images) && strings.HasPrefix(x.images[next].ID, part) {
		return match{}, fmt.Errorf("image %q: %w: ambiguous id prefix", part, ErrImageNotFound)
	}
	return match{image: x.images[first]}, nil
}

// completeName returns the full names that a user's name may stand for.
func (m *Images) completeName(name string) ([]reference.Named, error) {
	candidates := []string{name}
	if m.shortNames != nil {
		var err error
		if candidates, err = m.shortNames(name); err != nil {
			return nil, err
		}
	}
	names := make([]reference.Named, 0, len(candidates))
	for _, candidate := range candidates {
		named, err := reference.ParseNormalizedNamed(candidate)
		if err != nil {
			return nil, err
		}
		if digested, ok := named.(reference.Digested); ok {
			if named, err = reference.WithDigest(reference.TrimNamed(named), digested.Digest()); err != nil {
				return nil, err
			}
		}
		names = append(names, reference.TagNameOnly(named))
	}
	return names, nil
}
