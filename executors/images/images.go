package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// Images are the images and artifacts of the node.
type Images struct {
	Store    *storage.Store
	Registry *registry.Puller
}

// List returns the images, and after them the artifacts in the form of images, as
// CRI-O lists them: the kubelet can then tell that they are there, and collect those
// that nobody uses. It reads no more of the disk than storage.Images.List.
func (i Images) List(ctx context.Context) ([]storage.Image, error) {
	images, err := i.Store.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	artifacts, err := i.Registry.Artifacts()
	if err != nil {
		return nil, err
	}
	for _, a := range artifacts {
		images = append(images, i.artifactImage(a))
	}
	return images, nil
}

// Resolve finds the image, or else the artifact, that a user means, by the rules of
// storage.Images.Resolve and with its errors.
func (i Images) Resolve(ctx context.Context, ref string) (storage.Image, error) {
	found, err := i.Store.Images.Resolve(ctx, ref)
	if !errors.Is(err, storage.ErrImageNotFound) {
		return found, err
	}
	artifact, artifactErr := i.Registry.ResolveArtifact(ref)
	switch {
	case artifactErr == nil:
		return i.artifactImage(artifact), nil
	case errors.Is(artifactErr, registry.ErrNotFound), errors.Is(artifactErr, registry.ErrInvalidReference):
		return storage.Image{}, err
	}
	return storage.Image{}, fmt.Errorf("look up artifact %q: %w", ref, artifactErr)
}

// artifactImage is an artifact in the form of an image. It has no configuration, and so
// no user, and no container can be made of it.
func (i Images) artifactImage(a registry.Artifact) storage.Image {
	tags, digests := a.Tags(), a.RepoDigests()
	return storage.Image{
		ID: a.ID(), Names: tags, Digests: digests, Size: a.Size(),
		Pinned: i.Store.Images.IsPinned(tags...) || i.Store.Images.IsPinned(digests...),
	}
}

// Mount mounts an image or an artifact, or a directory of it, as a volume of a
// container (see storage.VolumeID), and says where. It goes with the container's root
// file system.
func (i Images) Mount(ctx context.Context, request storage.MountImageRequest) (string, error) {
	path, err := i.Store.Volumes.MountImage(ctx, request)
	if !errors.Is(err, storage.ErrImageNotFound) {
		return path, err
	}
	artifact, artifactErr := i.Registry.ResolveArtifact(request.Image)
	if errors.Is(artifactErr, registry.ErrNotFound) || errors.Is(artifactErr, registry.ErrInvalidReference) {
		return "", err
	}
	if artifactErr != nil {
		return "", artifactErr
	}
	if request.SharedLabel != "" {
		if err := label.Relabel(artifact.Path, request.SharedLabel, false); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return "", fmt.Errorf("label the files of artifact %s: %w", artifact.Digest, err)
		}
	}
	return i.Store.Volumes.MountDirectory(ctx, storage.MountDirectoryRequest{ID: request.ID, Dir: artifact.Path, SubPath: request.SubPath, Users: request.Users})
}

// Use is what a pod wants to run or to mount.
type Use struct {
	// Namespace is the pod's.
	Namespace string
	// Image is whatever Resolve understands, Written the name as the user wrote it.
	Image, Written string
}

// Permit asks the namespace's signature policy; see registry.Puller.Permit. A refusal is a
// fault.SignatureRefused. What is not here is storage.ErrImageNotFound.
func (i Images) Permit(ctx context.Context, use Use) error {
	request := registry.PermitRequest{Namespace: use.Namespace, Ref: cmp.Or(use.Written, use.Image)}
	found, err := i.Store.Images.Resolve(ctx, use.Image)
	switch {
	case err == nil:
		request.ID, request.Names = found.ID, append(slices.Clone(found.Names), found.Digests...)
	case errors.Is(err, storage.ErrImageNotFound):
		artifact, artifactErr := i.Registry.ResolveArtifact(use.Image)
		if artifactErr != nil {
			return err
		}
		request.Artifact = &artifact
	default:
		return err
	}
	if err := i.Registry.Permit(ctx, request); err != nil {
		return Fault("use image", request.Ref, err)
	}
	return nil
}

// Remove removes the image or the artifact that a reference means. One that is gone
// is removed; one in use is a fault.Precondition.
func (i Images) Remove(ctx context.Context, ref string) error {
	_, err := i.Store.Images.Resolve(ctx, ref)
	if err == nil {
		err = i.Store.Images.Remove(ctx, ref)
	} else if errors.Is(err, storage.ErrImageNotFound) {
		err = i.removeArtifact(ctx, ref)
	}
	if errors.Is(err, storage.ErrImageInUse) || errors.Is(err, storage.ErrReadOnlyImage) {
		return fault.New(fault.Precondition, "remove image", ref, "%v", err)
	}
	return err
}

func (i Images) removeArtifact(ctx context.Context, ref string) error {
	err := i.Registry.RemoveArtifact(ctx, ref, func(a registry.Artifact) error {
		users, err := i.Store.Volumes.DirectoryUsers(ctx, a.Path)
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
