package executors

import (
	"context"
	"errors"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/storage"
)

// imageMounts mounts the images and artifacts that a container wants to see as
// volumes (KEP-4639), by the index of the mount, if the signature policy of the pod's
// namespace accepts them.
func (x containers) imageMounts(ctx context.Context, c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (map[int]string, error) {
	paths := map[int]string{}
	label, shared := spec.MountLabel(x.Host, config, pod), ""
	if label != "" {
		shared = x.Host.Contexts.Shared
	}
	for i, m := range config.GetMounts() {
		ref := m.GetImage().GetImage()
		if ref == "" {
			continue
		}
		use := images.Use{Namespace: pod.GetMetadata().GetNamespace(), Image: ref, Written: m.GetImage().GetUserSpecifiedImage()}
		if err := x.Images().Permit(ctx, use); err != nil {
			return nil, imageMountFault(c, i, err)
		}
		path, err := x.Images().Mount(ctx, storage.MountImageRequest{
			ID: storage.VolumeID(string(c.ID), i), Image: ref, SubPath: m.GetImageSubPath(), Users: idMaps(pod),
			MountLabel: label, SharedLabel: shared,
		})
		if err != nil {
			return nil, imageMountFault(c, i, err)
		}
		paths[i] = path
	}
	return paths, nil
}

// imageMountFault has the words by which the kubelet knows the failure.
func imageMountFault(c container.Spec, index int, err error) error {
	kind := fault.KindOf(err)
	if kind == fault.SignatureRefused {
		err = fmt.Errorf("%w: %w", crierrors.ErrSignatureValidationFailed, err)
	}
	switch {
	case errors.Is(err, storage.ErrImageNotFound):
		kind = fault.NotFound
	case errors.Is(err, storage.ErrNoIDMaps):
		kind = fault.Unsupported
	case errors.Is(err, storage.ErrSubPath):
		kind = fault.Invalid
	}
	return fault.New(kind, "mount image", string(c.ID), "%v: mounts[%d].image: %v", crierrors.ErrImageVolumeMountFailed, index, err)
}
