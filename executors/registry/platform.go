package registry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	imagetypes "go.podman.io/image/v5/types"
)

// maxPlatformsNamed bounds how many of an index's platforms an error names.
const maxPlatformsNamed = 16

// checkedReference is an image in a registry that can be opened only if it is for
// this platform. The library itself would copy an image for another platform, with
// no more than a remark in the log, and it would fail when it is started.
type checkedReference struct {
	imagetypes.ImageReference

	manifest digest.Digest // of what the registry has under the name; set by opening
}

// NewImageSource opens the image and looks at its platform. The source that it
// returns is the library's own, so that the library finds all its abilities; the
// manifest that was read here is cached in it.
func (r *checkedReference) NewImageSource(ctx context.Context, system *imagetypes.SystemContext) (imagetypes.ImageSource, error) {
	source, err := r.ImageReference.NewImageSource(ctx, system)
	if err != nil {
		return nil, err
	}
	if err := r.check(ctx, system, source); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return source, nil
}

func (r *checkedReference) check(ctx context.Context, system *imagetypes.SystemContext, source imagetypes.ImageSource) error {
	content, mediaType, err := source.GetManifest(ctx, nil)
	if err != nil {
		return fmt.Errorf("read its manifest: %w", err)
	}
	if r.manifest, err = manifest.Digest(content); err != nil {
		return fmt.Errorf("compute its manifest's digest: %w", err)
	}
	if manifest.MIMETypeIsMultiImage(mediaType) {
		list, err := manifest.ListFromBlob(content, mediaType)
		if err != nil {
			return fmt.Errorf("parse its index: %w", err)
		}
		if _, err := list.ChooseInstance(system); err != nil {
			return fmt.Errorf("%w: this is %s, the index has %s", ErrUnsupportedPlatform, here(), platforms(list))
		}
		return nil
	}
	single, err := image.FromUnparsedImage(ctx, system, image.UnparsedInstance(source, nil))
	if err != nil {
		return fmt.Errorf("parse its manifest: %w", err)
	}
	info, err := single.Inspect(ctx)
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	// Very old images say nothing.
	if info.Os != "" && info.Os != "linux" || info.Architecture != "" && info.Architecture != runtime.GOARCH {
		return fmt.Errorf("%w: this is %s, the image is for %s/%s", ErrUnsupportedPlatform, here(), info.Os, info.Architecture)
	}
	return nil
}

func here() string { return "linux/" + runtime.GOARCH }

func platforms(list manifest.List) string {
	var names []string
	for _, instance := range list.Instances() {
		if len(names) == maxPlatformsNamed {
			names = append(names, "others")
			break
		}
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
	if len(names) == 0 {
		return "no platforms"
	}
	return strings.Join(names, ", ")
}
