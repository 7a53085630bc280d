package executors

import (
	"context"
	"errors"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// fetchImage pulls an image with the credentials of those who asked. Without an
// entry for them the pull was begun by another daemon: it is over.
func (x *Executor) fetchImage(ctx context.Context, f image.FetchImage) image.FetchImageDone {
	done := image.FetchImageDone{Pull: f.Pull}
	auth, ours := x.Credentials.find(f.Pull)
	if !ours {
		done.Err = fault.New(fault.Interrupted, "pull image", f.Ref, "the daemon was restarted during the pull")
		return done
	}
	namespace, err := namespaceOf(f.SandboxConfig)
	if err != nil {
		done.Err = err
		return done
	}
	x.Pulls.begin(f)
	defer x.Pulls.end(f.Pull)
	tell, told := x.newsOf(ctx, f)
	pulled, err := x.Registry.Pull(ctx, registry.PullRequest{
		Ref: f.Ref, Namespace: namespace, Artifacts: true, Progress: tell,
		Credentials: registry.Credentials{
			Username: auth.GetUsername(), Password: auth.GetPassword(), Auth: auth.GetAuth(),
			IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken(), ServerAddress: auth.GetServerAddress(),
		},
	})
	told()
	done.Bytes = pulled.Bytes
	if err != nil {
		done.Bytes = max(done.Bytes, x.Pulls.transferred(f.Pull))
		done.Err = RegistryFault("pull image", f.Ref, err)
		return done
	}
	done.ImageID, done.Digest = pulled.ImageID, pulled.Digest
	if pulled.Artifact != nil {
		done.ImageID = pulled.Artifact.ID()
	}
	return done
}

// loadImages loads the images of an archive. What is there already is not loaded
// again.
func (x *Executor) loadImages(ctx context.Context, f image.LoadImages) image.LoadImagesDone {
	done := image.LoadImagesDone{Load: f.Load}
	loaded, err := x.Registry.Load(ctx, registry.LoadRequest{Source: f.Ref, Name: f.Name})
	for _, l := range loaded {
		done.Images = append(done.Images, image.Loaded{Name: l.Name, ImageID: l.ImageID, Digest: l.Digest})
	}
	if err != nil {
		done.Err = RegistryFault("load images", f.Ref, err)
	}
	return done
}

// namespaceOf is the namespace of the pod for which an image is pulled; empty
// without a pod.
func namespaceOf(pod []byte) (string, error) {
	var config runtimeapi.PodSandboxConfig
	if err := decode(pod, &config); err != nil {
		return "", err
	}
	return config.GetMetadata().GetNamespace(), nil
}

// RegistryFault says of which kind a failure of the registry driver is.
func RegistryFault(op, ref string, err error) error {
	for _, k := range []struct {
		cause error
		kind  fault.Kind
	}{
		{registry.ErrInvalidReference, fault.Invalid},
		{registry.ErrNotFound, fault.NotFound},
		{registry.ErrUnauthorized, fault.Unauthorized},
		{registry.ErrRateLimited, fault.RateLimited},
		{registry.ErrPolicy, fault.SignatureRefused},
		{registry.ErrBlocked, fault.Precondition},
		{registry.ErrArtifact, fault.Precondition},
		{registry.ErrStalled, fault.Deadline},
		{registry.ErrDecryption, fault.Precondition},
		{registry.ErrInvalidImage, fault.Precondition},
		{registry.ErrUnavailable, fault.Unavailable},
		{registry.ErrUnsupportedPlatform, fault.Precondition},
	} {
		if errors.Is(err, k.cause) {
			return fault.New(k.kind, op, ref, "%v", err)
		}
	}
	return err
}

// deleteImage removes the image or the artifact that a reference means. What is gone
// already is removed.
func (x *Executor) deleteImage(ctx context.Context, ref string) error {
	_, err := x.Store.Images.Resolve(ctx, ref)
	if err == nil {
		err = x.Store.Images.Remove(ctx, ref)
	} else if errors.Is(err, storage.ErrImageNotFound) {
		err = x.deleteArtifact(ctx, ref)
	}
	if errors.Is(err, storage.ErrImageInUse) || errors.Is(err, storage.ErrReadOnlyImage) {
		return fault.New(fault.Precondition, "remove image", ref, "%v", err)
	}
	return err
}

func (x *Executor) deleteArtifact(ctx context.Context, ref string) error {
	err := x.Registry.RemoveArtifact(ctx, ref, func(a registry.Artifact) error {
		users, err := x.Store.Volumes.DirectoryUsers(ctx, a.Path)
		if err == nil && len(users) > 0 {
			err = &storage.ImageInUseError{ImageID: a.ID(), ContainerID: users[0]}
		}
		return err
	})
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	return err
}
