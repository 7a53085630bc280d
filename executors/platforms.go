package executors

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/executors/oci"
)

// chooseRuntime returns the runtime that makes a container of an image: the handler's, or where
// it has another for the image's platform, that. Which one it is stays with the container.
func (x containers) chooseRuntime(c container.Spec, handler *Handler, image *imagespec.Image) (*oci.Driver, error) {
	platform := ""
	if image != nil {
		platform = image.OS + "/" + image.Architecture
	}
	other, is := handler.Platforms[platform]
	if !is {
		if err := os.Remove(x.platformFile(c.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("forget the platform: %w", err)
		}
		_, runtime, err := x.handler(c.Handler)
		return runtime, err
	}
	runtime, err := other.Driver()
	if err == nil {
		err = other.Usable()
	}
	if err != nil {
		return nil, unusable(c.Handler+", for "+platform, err)
	}
	if err := os.MkdirAll(x.bundleDir(c.ID), 0o700); err != nil {
		return nil, fmt.Errorf("make the container's directory: %w", err)
	}
	if err := os.WriteFile(x.platformFile(c.ID), []byte(platform), 0o600); err != nil {
		return nil, fmt.Errorf("keep the platform: %w", err)
	}
	return runtime, nil
}

// runtimeOf returns the runtime that made a container. If the platform's is no longer configured,
// or nobody knows which it was, that is the handler's.
func (x containers) runtimeOf(c container.Spec) (*oci.Driver, error) {
	handler, err := x.Handlers.Find(c.Handler)
	if err != nil {
		return nil, err
	}
	if len(handler.Platforms) > 0 {
		platform, err := os.ReadFile(x.platformFile(c.ID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the platform: %w", err)
		}
		if other, is := handler.Platforms[string(platform)]; is {
			handler = other
		}
	}
	runtime, err := handler.Driver()
	return runtime, unusable(c.Handler, err)
}
