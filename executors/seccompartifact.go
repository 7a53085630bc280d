package executors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// maxSeccompArtifact bounds a profile in an artifact, in bytes, as one on the node.
const maxSeccompArtifact = 1 << 20

// seccompArtifact brings the seccomp profile that a pod names by annotation; nil for none. An artifact
// that is here is used, so that a container starts again while its registry is away: who wants another
// profile names it by its digest, or by another tag.
func (x containers) seccompArtifact(ctx context.Context, c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig, allowed []string) (*confine.Artifact, error) {
	asked := confine.AskedArtifact(config, pod, allowed)
	if asked == nil {
		return nil, nil
	}
	refused := func(kind fault.Kind, err error) error {
		return fault.New(kind, "create container", string(c.ID), "%s: the seccomp profile %q can't be used: %v", asked.Field(), asked.Name, err)
	}
	namespace := pod.GetMetadata().GetNamespace()
	found, err := x.Registry.ResolveArtifact(asked.Name)
	if errors.Is(err, registry.ErrNotFound) {
		found, err = x.Registry.PullArtifact(ctx, registry.ArtifactRequest{Ref: asked.Name, Namespace: namespace})
	}
	if err == nil {
		err = x.Registry.Permit(ctx, registry.PermitRequest{Namespace: namespace, Ref: asked.Name, Artifact: &found})
	}
	if err != nil {
		return nil, refused(fault.KindOf(images.Fault("pull seccomp profile", asked.Name, err)), err)
	}
	asked.Digest = found.Digest
	if asked.Data, err = onlyFile(found); err != nil {
		return nil, refused(fault.Invalid, err)
	}
	return asked, nil
}

// onlyFile reads the file of an artifact that has one.
func onlyFile(a registry.Artifact) ([]byte, error) {
	if len(a.Files) != 1 {
		return nil, fmt.Errorf("the artifact has %d files, not one", len(a.Files))
	}
	if a.Files[0].Size > maxSeccompArtifact {
		return nil, fmt.Errorf("it has %d bytes, more than %d", a.Files[0].Size, maxSeccompArtifact)
	}
	root, err := os.OpenRoot(a.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // nothing is written through it
	file, err := root.Open(a.Files[0].Name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSeccompArtifact))
}
