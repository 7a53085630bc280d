package executors

import (
	"context"
	"errors"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/storage"
)

// imageMounts mounts the images and artifacts that a container wants to see as
// volumes (KEP-4639), by the index of the mount.
func (x containers) imageMounts(ctx context.Context, c container.Spec, mounts []*runtimeapi.Mount) (map[int]string, error) {
	paths := map[int]string{}
	for i, m := range mounts {
		ref := m.GetImage().GetImage()
		if ref == "" {
			continue
		}
		path, err := x.Images().Mount(ctx, storage.VolumeID(string(c.ID), i), ref, m.GetImageSubPath())
		if err != nil {
			return nil, imageMountFault(c, i, err)
		}
		paths[i] = path
	}
	return paths, nil
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
