package cri

import (
	"context"
	"encoding/json"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
)

// ListImages lists the images, or the one that the filter names.
func (s *Service) ListImages(ctx context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	answer := &runtimeapi.ListImagesResponse{}
	if ref := req.GetFilter().GetImage().GetImage(); ref != "" {
		found, err := s.Images.Resolve(ctx, ref)
		if unlessGone(err) != nil {
			return nil, err
		}
		if err == nil {
			answer.Images = append(answer.Images, shown(found))
		}
		return answer, nil
	}
	all, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		answer.Images = append(answer.Images, shown(i))
	}
	return answer, nil
}

// ImageStatus returns the status of an image. A missing one is no error but an empty
// answer, as the CRI requires.
func (s *Service) ImageStatus(ctx context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	ref := req.GetImage().GetImage()
	if ref == "" {
		return nil, invalid("image.image", "is empty")
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
		info, err := json.Marshal(map[string]any{"labels": found.Labels, "stopSignal": found.StopSignal})
		if err != nil {
			return nil, fmt.Errorf("encode the info of image %s: %w", found.ID, err)
		}
		answer.Info = map[string]string{"info": string(info)}
	}
	return answer, nil
}

// RemoveImage removes an image, or one of its names. It succeeds if the image is gone.
func (s *Service) RemoveImage(ctx context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	ref := req.GetImage().GetImage()
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	if _, err := s.Actors.Image(ctx, ref, image.Remove{Ref: ref}, image.RemoveAnswer); unlessGone(err) != nil {
		return nil, err
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo returns the disk usage of images and containers.
func (s *Service) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
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
