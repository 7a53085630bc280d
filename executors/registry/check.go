package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	imagetypes "go.podman.io/image/v5/types"
)

// maxLayers bounds an image's layers: the storage library's overlay driver mounts no more.
// The image library bounds manifests and configurations, at 4 MiB each.
const maxLayers = 500

// encryptedSuffix ends the media types of encrypted layers.
const encryptedSuffix = "+encrypted"

// contents are what a manifest says of an image.
type contents struct {
	resolved  Resolved
	layers    []imagetypes.BlobInfo
	encrypted bool
	// warning says why the image may not run here; empty if nothing is wrong.
	warning string
}

// distinct returns the digests of the layers.
func (c contents) distinct() map[string]bool {
	digests := map[string]bool{}
	for _, layer := range c.layers {
		digests[layer.Digest.String()] = true
	}
	return digests
}

// checkedReference is an image that can be opened only if it can be used here: if it is an
// image, for this operating system, of bounded size, and can be decrypted.
type checkedReference struct {
	imagetypes.ImageReference

	canDecrypt bool
	platforms  []string       // see Options
	found      contents       // set by opening
	report     func(contents) // called by opening
}

// NewImageSource opens the image and checks it. The source that it returns is the library's
// own, with all its abilities, and has the manifest cached.
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
	opened, err := open(ctx, system, source, r.platforms)
	if err != nil {
		return err
	}
	r.found = opened.contents()
	switch layers := len(r.found.layers); {
	case layers > maxLayers:
		return fmt.Errorf("%w: it has %d layers, more than %d", ErrInvalidImage, layers, maxLayers)
	case r.found.encrypted && !r.canDecrypt:
		return fmt.Errorf("%w: its layers are encrypted, and no decryption key is configured", ErrDecryption)
	}
	if opened.index == nil {
		config, err := opened.image.OCIConfig(ctx)
		if err != nil {
			return notAnImage(err, "read its configuration")
		}
		if r.found.warning, err = checkPlatform(config, r.platforms); err != nil {
			return err
		}
	}
	r.report(r.found)
	return nil
}

// opened is an image whose manifest has been read.
type opened struct {
	top, own digest.Digest // of the name's manifest, and of this platform's
	index    manifest.List // nil if there is none
	image    imagetypes.Image
	mime     string
}

// open reads an image's manifest, and if it is an index, this platform's, or else that of one of
// others.
func open(ctx context.Context, system *imagetypes.SystemContext, source imagetypes.ImageSource, others []string) (opened, error) {
	var o opened
	content, mime, err := source.GetManifest(ctx, nil)
	if err != nil {
		return o, fmt.Errorf("read its manifest: %w", err)
	}
	if o.top, err = manifest.Digest(content); err != nil {
		return o, fmt.Errorf("%w: compute its manifest's digest: %w", ErrInvalidImage, err)
	}
	o.own, o.mime = o.top, mime
	unparsed := image.UnparsedInstance(source, nil)
	if manifest.MIMETypeIsMultiImage(mime) {
		if o.index, err = manifest.ListFromBlob(content, mime); err != nil {
			return o, fmt.Errorf("%w: parse its index: %w", ErrInvalidImage, err)
		}
		if err = choose(o.index, system, others); err == nil {
			o.own, err = o.index.ChooseInstance(system)
		}
		if err != nil {
			return o, fmt.Errorf("%w: this is %s, the index has %s", ErrUnsupportedPlatform, here(), someOf(platforms(o.index)))
		}
		unparsed = image.UnparsedInstance(source, &o.own)
		if _, o.mime, err = unparsed.Manifest(ctx); err != nil {
			return o, fmt.Errorf("read its manifest for this platform: %w", err)
		}
		if manifest.MIMETypeIsMultiImage(o.mime) {
			return o, fmt.Errorf("%w: its index has another index for this platform", ErrInvalidImage)
		}
	}
	if o.image, err = image.FromUnparsedImage(ctx, system, unparsed); err != nil {
		return o, notAnImage(err, "parse its manifest")
	}
	return o, nil
}

// contents returns what the manifest says.
func (o opened) contents() contents {
	c := contents{
		layers:   o.image.LayerInfos(),
		resolved: Resolved{Digest: o.top.String(), Manifest: o.own.String()},
	}
	c.resolved.Layers = len(c.layers)
	for _, layer := range c.layers {
		c.encrypted = c.encrypted || strings.HasSuffix(layer.MediaType, encryptedSuffix)
		if layer.Size < 0 || c.resolved.Bytes < 0 {
			c.resolved.Bytes = -1
			continue
		}
		c.resolved.Bytes += layer.Size
	}
	return c
}

// notAnImage tells invalid manifests and configurations from failures to read them.
func notAnImage(err error, doing string) error {
	var artifact manifest.NonImageArtifactError
	if errors.As(err, &artifact) {
		return fmt.Errorf("%w: %w", ErrArtifact, err)
	}
	if kindOf(err) != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrInvalidImage, doing, err)
}
