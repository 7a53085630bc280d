package daemon

import (
	"context"
	"errors"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/storage"
)

// Images adapts the store's images and artifacts to the CRI.
type Images struct{ Drivers *executors.Drivers }

// List is part of cri.Images.
func (s Images) List(ctx context.Context) ([]cri.Image, error) {
	all, err := s.Drivers.Images().List(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]cri.Image, len(all))
	for i := range all {
		images[i] = criImage(&all[i])
	}
	return images, nil
}

// Resolve is part of cri.Images.
func (s Images) Resolve(ctx context.Context, ref string) (cri.Image, error) {
	found, err := s.Drivers.Images().Resolve(ctx, ref)
	if errors.Is(err, storage.ErrImageNotFound) {
		return cri.Image{}, fault.New(fault.NotFound, "find image", ref, "%v", err)
	}
	if errors.Is(err, storage.ErrInvalidReference) {
		return cri.Image{}, fault.New(fault.Invalid, "find image", "", "%v", err)
	}
	if err != nil {
		return cri.Image{}, err
	}
	return criImage(&found), nil
}

// Usage is part of cri.Images.
func (s Images) Usage(ctx context.Context) (cri.Usage, error) {
	images, containers, err := s.Drivers.Store.Usage.Filesystems(ctx)
	if err != nil {
		return cri.Usage{}, err
	}
	return cri.Usage{
		At: images.Timestamp, ImagePath: images.Path, ImageBytes: images.Bytes, ImageInodes: images.Inodes,
		ContainerPath: containers.Path, ContainerBytes: containers.Bytes, ContainerInodes: containers.Inodes,
	}, nil
}

func criImage(i *storage.Image) cri.Image {
	image := cri.Image{ID: i.ID, Tags: i.Names, Digests: i.Digests, Size: i.Size, Annotations: i.Annotations, Config: i.Config, Pinned: i.Pinned}
	image.UID, image.Username = i.RunsAs()
	if i.Config != nil {
		image.StopSignal, image.Labels = i.Config.Config.StopSignal, i.Config.Config.Labels
	}
	return image
}
