package executors

import (
	"context"
	"errors"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// imageMounts mounts the images and artifacts that a container wants to see as
// volumes (KEP-4639), by the index of the mount. They go with the container's root
// file system.
func (x *Executor) imageMounts(ctx context.Context, c container.Spec, mounts []*runtimeapi.Mount) (map[int]string, error) {
	paths := map[int]string{}
	for i, m := range mounts {
		if m.GetImage().GetImage() == "" {
			continue
		}
		path, err := x.imageMount(ctx, storage.VolumeID(string(c.ID), i), m)
		if err != nil {
			return nil, imageMountFault(c, i, err)
		}
		paths[i] = path
	}
	return paths, nil
}

func (x *Executor) imageMount(ctx context.Context, volume string, m *runtimeapi.Mount) (string, error) {
	path, err := x.Store.Volumes.MountImage(ctx, storage.MountImageRequest{ID: volume, Image: m.GetImage().GetImage(), SubPath: m.GetImageSubPath()})
	if !errors.Is(err, storage.ErrImageNotFound) {
		return path, err
	}
	artifact, artifactErr := x.Registry.ResolveArtifact(m.GetImage().GetImage())
	if errors.Is(artifactErr, registry.ErrNotFound) || errors.Is(artifactErr, registry.ErrInvalidReference) {
		return "", err
	}
	if artifactErr != nil {
		return "", artifactErr
	}
	return x.Store.Volumes.MountDirectory(ctx, storage.MountDirectoryRequest{ID: volume, Dir: artifact.Path, SubPath: m.GetImageSubPath()})
}

// imageMountFault begins with the word by which the kubelet knows the failure.
func imageMountFault(c container.Spec, index int, err error) error {
	kind := fault.Internal
	switch {
	case errors.Is(err, storage.ErrImageNotFound):
		kind = fault.NotFound
	case errors.Is(err, storage.ErrSubPath):
		kind = fault.Invalid
	}
	return fault.New(kind, "mount image", string(c.ID), "%v: mounts[%d].image: %v", crierrors.ErrImageVolumeMountFailed, index, err)
}
