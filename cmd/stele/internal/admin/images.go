package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/registry"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// LoadImage loads an archive's images through the archive's actor, so that the log
// records it like a pull. It continues after the caller leaves.
func (s *Service) LoadImage(ctx context.Context, req *adminv1.LoadImageRequest) (*adminv1.LoadImageResponse, error) {
	if err := checkSource(req.GetSource()); err != nil {
		return nil, err
	}
	load := id.Load(rand.Text())
	state, err := s.parts.Actors.Image(context.WithoutCancel(ctx), req.GetSource(),
		image.RequestLoad{Ref: req.GetSource(), Load: load, Name: req.GetName(), At: time.Now().UTC()}, image.LoadAnswer(load))
	if err != nil {
		return nil, err
	}
	answer := &adminv1.LoadImageResponse{}
	for _, i := range state.LastLoad.Images {
		answer.Images = append(answer.Images, &adminv1.LoadedImage{Name: i.Name, ImageId: i.ImageID, Digest: i.Digest})
	}
	return answer, nil
}

// checkSource refuses a relative path, which the daemon would resolve elsewhere than the
// caller.
func checkSource(source string) error {
	transport, path, ok := strings.Cut(source, ":")
	if !ok || transport == "" {
		return fault.New(fault.Invalid, "load image", "", "source: %q is not TRANSPORT:PATH", source)
	}
	if !filepath.IsAbs(path) {
		return fault.New(fault.Invalid, "load image", "", "source: the path of %q is not absolute", source)
	}
	return nil
}

// InspectImage describes an image in a registry, an archive or the store.
func (s *Service) InspectImage(ctx context.Context, req *adminv1.InspectImageRequest) (*adminv1.InspectImageResponse, error) {
	if req.GetImage() == "" {
		return nil, fault.New(fault.Invalid, "inspect image", "", "image: is empty")
	}
	found, err := s.parts.Registry.Inspect(ctx, registry.InspectRequest{Image: req.GetImage(), Tags: req.GetTags()})
	if err != nil {
		return nil, images.Fault("inspect image", req.GetImage(), err)
	}
	shown, err := json.Marshal(found)
	if err != nil {
		return nil, fmt.Errorf("encode the description of image %s: %w", req.GetImage(), err)
	}
	return &adminv1.InspectImageResponse{InspectionJson: string(shown)}, nil
}

// Pulls joins the pulls under way with the progress of their layers.
func (s *Service) Pulls(context.Context, *adminv1.PullsRequest) (*adminv1.PullsResponse, error) {
	transfers := map[id.Pull][]*adminv1.LayerTransfer{}
	for _, t := range s.parts.Transfers.Transfers() {
		for _, l := range t.Layers {
			transfers[t.Pull] = append(transfers[t.Pull], &adminv1.LayerTransfer{Digest: l.Digest, Offset: l.Offset, Size: l.Size})
		}
	}
	answer := &adminv1.PullsResponse{}
	for _, state := range s.parts.Views.Pulls() {
		for pull, p := range state.Pulls {
			answer.Pulls = append(answer.Pulls, &adminv1.Pull{
				Ref: state.Ref, RequestedAt: timestamppb.New(p.RequestedAt), Name: p.Resolved.Name, Digest: p.Resolved.Digest,
				Layers: int64(p.Resolved.Layers), LayersFetched: int64(p.Fetched), Bytes: cmp.Or(p.Resolved.Bytes, -1),
				Transfers: transfers[pull],
			})
		}
	}
	return answer, nil
}
