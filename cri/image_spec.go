package cri

import (
	"strings"
	"unicode"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/redact"
)

// maxWrittenName bounds, in bytes, an image's name as the user wrote it: twice what a name
// with a digest can have.
const maxWrittenName = 1024

// checkImageSpec checks what an ImageSpec has beside the image. What becomes of it:
//
//   - annotations: nothing. The kubelet sends its pod's, and the CRI defines none that
//     would choose an image. A container's status has them.
//   - user_specified_image: the name in a container's status, and the one for which the
//     signature policy of its namespace is asked.
//   - runtime_handler: must be known. All handlers have one image store, so that it makes no
//     difference, and neither images nor containers show one: the kubelet compares them.
//   - image_ref: the node's answer, for what a container has mounted. A request's is
//     replaced.
func (s *Parts) checkImageSpec(field string, spec *runtimeapi.ImageSpec) error {
	if name := spec.GetRuntimeHandler(); name != "" && !s.hasHandler(name) {
		return invalid(field+".runtime_handler", "%q is not configured on this node", name)
	}
	field += ".user_specified_image"
	switch written := spec.GetUserSpecifiedImage(); {
	case len(written) > maxWrittenName:
		return invalid(field, "has %d bytes, more than %d", len(written), maxWrittenName)
	case strings.ContainsFunc(written, unicode.IsControl):
		return invalid(field, "%q has control characters", written)
	case redact.Text(written) != written:
		return invalid(field, "%q has a user or a query, which no image's name has", redact.Text(written))
	}
	return nil
}

// checkContainerImages checks the images of a container: its own, and those to be mounted.
func (s *Parts) checkContainerImages(config *runtimeapi.ContainerConfig) error {
	if err := s.checkImageSpec("config.image", config.GetImage()); err != nil {
		return err
	}
	for i, m := range config.GetMounts() {
		if err := s.checkImageSpec(mountField(i), m.GetImage()); err != nil {
			return err
		}
	}
	return nil
}

// checkImageFilter refuses a filter by what images cannot be listed by.
func (s *Parts) checkImageFilter(spec *runtimeapi.ImageSpec) error {
	const field = "filter.image"
	switch {
	case len(spec.GetAnnotations()) > 0:
		return fault.New(fault.Unsupported, "", "", "%s.annotations: images cannot be listed by %q", field, spec.GetAnnotations())
	case spec.GetImage() == "" && spec.GetUserSpecifiedImage() != "":
		return invalid(field+".image", "is empty, and user_specified_image is %q: images are listed by the former", redact.Text(spec.GetUserSpecifiedImage()))
	case spec.GetImage() == "" && spec.GetImageRef() != "":
		return invalid(field+".image", "is empty, and image_ref is %q: images are listed by the former", redact.Text(spec.GetImageRef()))
	}
	return s.checkImageSpec(field, spec)
}
