package registry

import (
	"fmt"
	"runtime"
	"strings"

	"go.podman.io/image/v5/manifest"
	imagetypes "go.podman.io/image/v5/types"
)

// maxPlatformsNamed bounds how many of an index's platforms an error names.
const maxPlatformsNamed = 16

// checkPlatform refuses an image that says it is for other machines. Very old images
// say nothing.
func checkPlatform(info *imagetypes.ImageInspectInfo) error {
	if info.Os != "" && info.Os != "linux" || info.Architecture != "" && info.Architecture != runtime.GOARCH {
		return fmt.Errorf("%w: this is %s, the image is for %s/%s", ErrUnsupportedPlatform, here(), info.Os, info.Architecture)
	}
	return nil
}

func here() string { return "linux/" + runtime.GOARCH }

// platforms names what an index has.
func platforms(list manifest.List) []string {
	var names []string
	for _, instance := range list.Instances() {
		description, err := list.Instance(instance)
		if err != nil || description.ReadOnly.Platform == nil {
			continue
		}
		platform := description.ReadOnly.Platform
		name := platform.OS + "/" + platform.Architecture
		if platform.Variant != "" {
			name += "/" + platform.Variant
		}
		names = append(names, name)
	}
	return names
}

// someOf is a bounded list for an error's text.
func someOf(names []string) string {
	switch {
	case len(names) == 0:
		return "no platforms"
	case len(names) > maxPlatformsNamed:
		return strings.Join(names[:maxPlatformsNamed], ", ") + ", others"
	}
	return strings.Join(names, ", ")
}
