package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	library "go.podman.io/storage"
)

// maxConfigSize bounds what is read of an image's manifest and configuration, in bytes
// each. The image library has the same limit for what it fetches, so no pulled image is
// over it.
const maxConfigSize = 4 << 20

// config reads an image's configuration, whatever the format of its manifest, and the
// manifest's annotations if there are any.
func (c *catalog) config(ctx context.Context, record *library.Image) (*imagespec.Image, map[string]string, error) {
	for name, size := range record.BigDataSizes {
		if digest.Digest(name).Validate() == nil || name == library.ImageDigestBigDataKey {
			if size > maxConfigSize {
				return nil, nil, fmt.Errorf("its record %s has %d bytes, the limit is %d", name, size, maxConfigSize)
			}
		}
	}
	ref, err := istorage.Transport.NewStoreReference(c.lib, nil, record.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("name the image: %w", err)
	}
	image, err := ref.NewImage(ctx, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("read its manifest: %w", err)
	}
	config, err := image.OCIConfig(ctx)
	var annotations map[string]string
	if err == nil {
		annotations, err = manifestAnnotations(ctx, image)
	}
	if err := errors.Join(err, image.Close()); err != nil {
		return nil, nil, fmt.Errorf("read its configuration: %w", err)
	}
	maps.DeleteFunc(config.Config.Volumes, func(path string, _ struct{}) bool { return isNoVolume(path) })
	return config, annotations, nil
}

// isNoVolume reports whether a VOLUME is empty or the root: an empty variable in a
// Dockerfile makes such, builders let them through, and other runtimes ignore them.
func isNoVolume(path string) bool { return filepath.Clean("/"+path) == "/" }

func manifestAnnotations(ctx context.Context, image imagetypes.Image) (map[string]string, error) {
	content, mediaType, err := image.Manifest(ctx)
	if err != nil || mediaType != imagespec.MediaTypeImageManifest {
		return nil, err
	}
	var manifest struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		return nil, fmt.Errorf("parse its manifest: %w", err)
	}
	return manifest.Annotations, nil
}

// RunsAs returns the user of the image's containers by default, as the CRI's Image has it:
// a number, or else a name. A group ("user:group") is ignored.
//
// The kubelet uses it to check runAsNonRoot. So anything that is not plainly a valid user
// id is a name, which the kubelet refuses: a number that is too large must not wrap around
// (CVE-2024-40635), nor lose its sign.
func (i *Image) RunsAs() (uid *int64, username string) {
	user, _, _ := strings.Cut(i.User, ":")
	// 31 bits, as ParseUint takes neither a sign nor an underscore in base 10.
	if number, err := strconv.ParseUint(user, 10, 31); err == nil {
		value := int64(number)
		return &value, ""
	}
	return nil, user
}
