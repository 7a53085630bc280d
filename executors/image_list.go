package executors

import (
	"context"
	"errors"
	"fmt"

	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// Images returns the images, and after them the artifacts in the form of images, as
// CRI-O lists them: the kubelet can then tell that they are there, and collect those
// that nobody uses. It reads no more of the disk than storage.Images.List.
func (d *Drivers) Images(ctx context.Context) ([]storage.Image, error) {
	images, err := d.Store.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	artifacts, err := d.Registry.Artifacts()
	if err != nil {
		return nil, err
	}
	for _, a := range artifacts {
		images = append(images, d.artifactImage(a))
	}
	return images, nil
}

// ResolveImage finds the image, or else the artifact, that a user means, by the rules of
// storage.Images.Resolve and with its errors.
func (d *Drivers) ResolveImage(ctx context.Context, ref string) (storage.Image, error) {
	found, err := d.Store.Images.Resolve(ctx, ref)
	if !errors.Is(err, storage.ErrImageNotFound) {
		return found, err
	}
	artifact, artifactErr := d.Registry.ResolveArtifact(ref)
	switch {
	case artifactErr == nil:
		return d.artifactImage(artifact), nil
	case errors.Is(artifactErr, registry.ErrNotFound), errors.Is(artifactErr, registry.ErrInvalidReference):
		return storage.Image{}, err
	}
	return storage.Image{}, fmt.Errorf("look up artifact %q: %w", ref, artifactErr)
}

// artifactImage is an artifact in the form of an image. It has no configuration, and so
// no user, and no container can be made of it.
func (d *Drivers) artifactImage(a registry.Artifact) storage.Image {
	tags, digests := a.Tags(), a.RepoDigests()
	return storage.Image{
		ID: a.ID(), Names: tags, Digests: digests, Size: a.Size(),
		Pinned: d.Store.Images.IsPinned(tags...) || d.Store.Images.IsPinned(digests...),
	}
}
