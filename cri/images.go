package cri

import (
	"context"
	"iter"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
)

// ListImages lists the images, or the one that the filter names.
func (s imageService) ListImages(ctx context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	all, err := s.images(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return whole(&runtimeapi.ListImagesResponse{Images: slices.Collect(all)}, "StreamImages")
}

// images are the images of the store as of one moment, or the one that the filter names.
func (s imageService) images(ctx context.Context, filter *runtimeapi.ImageFilter) (iter.Seq[*runtimeapi.Image], error) {
	var all []Image
	err := s.checkImageFilter(filter.GetImage())
	if err != nil {
		return nil, err
	}
	if ref := filter.GetImage().GetImage(); ref != "" {
		var found Image
		if found, err = s.Images.Resolve(ctx, ref); err == nil {
			all = []Image{found}
		}
		err = unlessGone(err)
	} else {
		all, err = s.Images.List(ctx)
	}
	return func(yield func(*runtimeapi.Image) bool) {
		for _, i := range all {
			if !yield(shown(i)) {
				return
			}
		}
	}, err
}

// ImageStatus returns the status of an image. A missing one is no error but an empty
// answer, as the CRI requires.
func (s imageService) ImageStatus(ctx context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	ref := req.GetImage().GetImage()
	if ref == "" {
		return nil, invalid("image.image", "is empty")
	}
	if err := s.checkImageSpec("image", req.GetImage()); err != nil {
		return nil, err
	}
	found, err := s.Images.Resolve(ctx, ref)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return &runtimeapi.ImageStatusResponse{}, nil
		}
		return nil, err
	}
	answer := &runtimeapi.ImageStatusResponse{Image: shown(found)}
	if req.GetVerbose() {
		if answer.Info, err = infoOfImage(&found); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// RemoveImage removes an image, or one of its names. It succeeds if the image is gone.
func (s imageService) RemoveImage(ctx context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	ref := req.GetImage().GetImage()
	if err := s.checkImage(req.GetImage()); err != nil {
		return nil, err
	}
	if _, err := s.Actors.Image(ctx, ref, image.Remove{Ref: ref}, image.RemoveAnswer); unlessGone(err) != nil {
		return nil, err
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo returns the disk usage of images and containers.
func (s imageService) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	u, err := s.Images.Usage(ctx)
	if err != nil {
		return nil, err
	}
	usage := func(path string, bytes, inodes uint64) []*runtimeapi.FilesystemUsage {
		return []*runtimeapi.FilesystemUsage{{
			Timestamp:  u.At.UnixNano(),
			FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: path},
			UsedBytes:  &runtimeapi.UInt64Value{Value: bytes},
			InodesUsed: &runtimeapi.UInt64Value{Value: inodes},
		}}
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems:     usage(u.ImagePath, u.ImageBytes, u.ImageInodes),
		ContainerFilesystems: usage(u.ContainerPath, u.ContainerBytes, u.ContainerInodes),
	}, nil
}

// shown is an image in the CRI's form. Its user is a number or a name, for the
// kubelet's runAsNonRoot check.
func shown(i Image) *runtimeapi.Image {
	answer := &runtimeapi.Image{
		Id: i.ID, RepoTags: i.Tags, RepoDigests: i.Digests, Size: i.Size, Pinned: i.Pinned, Username: i.Username,
		Spec: &runtimeapi.ImageSpec{Image: i.ID, Annotations: i.Annotations},
	}
	if i.UID != nil {
		answer.Uid = &runtimeapi.Int64Value{Value: *i.UID}
	}
	return answer
}
