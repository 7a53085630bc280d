package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/redact"
)

// checkImage refuses what must not become an event: nothing, and a reference with a
// password or a token in it.
func (s imageService) checkImage(spec *runtimeapi.ImageSpec) error {
	switch ref := spec.GetImage(); {
	case ref == "":
		return invalid("image.image", "is empty")
	case redact.Text(ref) != ref:
		return invalid("image.image", "%q has a user or a query, which no image's name has", redact.Text(ref))
	}
	return s.checkImageSpec("image", spec)
}

// PullImage pulls an image and returns its id. Calls with the same reference, namespace
// and credentials share a pull. The pull continues after its caller leaves: a kubelet
// that timed out finds the image next time.
func (s imageService) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	ref := req.GetImage().GetImage()
	if err := s.checkImage(req.GetImage()); err != nil {
		return nil, err
	}
	var pod []byte
	if req.GetSandboxConfig() != nil {
		var err error
		if pod, err = encode(req.GetSandboxConfig()); err != nil {
			return nil, err
		}
	}
	pull, drop := s.Credentials.Keep(ref, req.GetSandboxConfig().GetMetadata().GetNamespace(), req.GetAuth())
	defer drop()
	// The pull outlives an impatient caller, and so must its credentials.
	state, err := s.Actors.Image(context.WithoutCancel(ctx), ref, image.RequestPull{Ref: ref, Pull: pull, SandboxConfig: pod, At: time.Now()}, image.PullAnswer(pull))
	if err != nil {
		return nil, pullError(err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: state.Last.ImageID}, nil
}
