package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distribution/reference"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
)

// maxTags bounds the tags that an inspection lists, and tagsTimeout the time for that: a
// registry may have any number.
const (
	maxTags     = 1000
	tagsTimeout = 30 * time.Second
)

// InspectRequest asks about an image that need not be in the store.
type InspectRequest struct {
	// Image is a name as for a pull, also with docker:// before it; or a place as for
	// a load, or containers-storage:NAME.
	Image string
	// Namespace and Credentials are as for a pull.
	Namespace   string
	Credentials Credentials
	// Tags asks for the repository's tags too.
	Tags bool
}

// Inspection is what can be known of an image without pulling it.
type Inspection struct {
	// Name is its full name; empty if the archive gives it none.
	Name string
	// Digest is that of the name's manifest or index, Manifest that of this platform's
	// manifest, which differs if Digest is an index's.
	Digest, Manifest string
	// MediaType is the manifest's.
	MediaType string
	// Platforms are those of the index; nil if there is no index.
	Platforms []string
	// Tags are the repository's, if they were asked for: the first 1000. MoreTags
	// says that there are others.
	Tags     []string
	MoreTags bool

	Created                   time.Time // zero if the image doesn't say
	Author                    string
	OS, Architecture, Variant string
	// Layers are sorted from the lowest up; Bytes is their total size as transferred, -1 if
	// the manifest doesn't say.
	Layers []Layer
	Bytes  int64
	// Encrypted says that some layers are.
	Encrypted bool
	// Config is how it is to be run: user, environment, labels, and the like.
	Config imagespec.ImageConfig
}

// Layer is one layer of an image, as it is transferred.
type Layer struct {
	Digest    string
	MediaType string
	Size      int64 // in bytes; -1 if the manifest doesn't say
}

// Inspect describes an image in a registry, an archive or the store without pulling it. It
// ignores the signature policy, as nothing is run. An image for another platform is shown;
// an index without this platform is an error that names its platforms.
func (p *Puller) Inspect(ctx context.Context, request InspectRequest) (Inspection, error) {
	where, err := parsePlace(request.Image)
	j, beginErr := p.begin(jobRequest{
		op: "inspect", subject: request.Image, ref: where.name, namespace: request.Namespace, credentials: request.Credentials,
	})
	if beginErr != nil {
		return Inspection{}, beginErr
	}
	defer j.end()
	if err != nil {
		return Inspection{}, j.fail(ctx, err)
	}
	var inspection Inspection
	if where.transport == inRegistry {
		inspection, err = j.inspectRemote(ctx, request.Tags, where.name)
	} else {
		inspection, err = j.inspectLocal(ctx, where)
	}
	if err != nil {
		return Inspection{}, j.fail(ctx, err)
	}
	return inspection, nil
}

func (j *job) inspectRemote(ctx context.Context, tags bool, name string) (Inspection, error) {
	found, err := j.resolve(name)
	if err != nil {
		return Inspection{}, err
	}
	var inspection Inspection
	err = j.firstOf(ctx, found, func(name reference.Named) error {
		source, err := docker.NewReference(name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalidReference, err)
		}
		err = j.fromSources(ctx, name, func(system *imagetypes.SystemContext) error {
			w := watch(ctx, j.p.options.StallTimeout)
			defer w.stop()
			inspection, err = inspect(w, system, source)
			inspection.Name = name.String()
			return w.explain(err)
		})
		if err != nil || !tags {
			return err
		}
		// Tags are the registry's own, not its mirrors'.
		system, err := j.systemFor(name)
		if err != nil {
			return err
		}
		return j.p.again(ctx, func() error {
			inspection.Tags, inspection.MoreTags, err = listTags(ctx, system, source)
			return err
		})
	})
	return inspection, err
}

func (j *job) inspectLocal(ctx context.Context, where place) (Inspection, error) {
	if where.transport == inStore {
		named, err := complete(where.name)
		if err != nil {
			return Inspection{}, fmt.Errorf("%w: %w", ErrInvalidReference, err)
		}
		source, err := j.p.options.Store.Reference(named)
		if err != nil {
			return Inspection{}, err
		}
		inspection, err := inspect(ctx, j.system, source)
		if errors.Is(err, istorage.ErrNoSuchImage) {
			err = fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		inspection.Name = named.String()
		return inspection, err
	}
	archive, err := j.openArchive(where)
	if err != nil {
		return Inspection{}, err
	}
	defer archive.close()
	if len(archive.images) != 1 {
		return Inspection{}, fmt.Errorf("%w: it has %d images, say which one", ErrInvalidReference, len(archive.images))
	}
	inspection, err := inspect(ctx, j.system, archive.images[0].source)
	if names := archive.images[0].names; len(names) > 0 {
		inspection.Name = names[0].String()
	}
	return inspection, err
}

func inspect(ctx context.Context, system *imagetypes.SystemContext, ref imagetypes.ImageReference) (_ Inspection, err error) {
	source, err := ref.NewImageSource(ctx, system)
	if err != nil {
		return Inspection{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	o, err := open(ctx, system, source, nil)
	if err != nil {
		return Inspection{}, err
	}
	config, err := o.image.OCIConfig(ctx)
	if err != nil {
		return Inspection{}, notAnImage(err, "read its configuration")
	}
	found := o.contents()
	inspection := Inspection{
		Digest:       found.resolved.Digest,
		Manifest:     found.resolved.Manifest,
		MediaType:    o.mime,
		Author:       config.Author,
		OS:           config.OS,
		Architecture: config.Architecture,
		Variant:      config.Variant,
		Bytes:        found.resolved.Bytes,
		Encrypted:    found.encrypted,
		Config:       config.Config,
	}
	if o.index != nil {
		inspection.Platforms = platforms(o.index)
	}
	if config.Created != nil {
		inspection.Created = *config.Created
	}
	for _, layer := range found.layers {
		inspection.Layers = append(inspection.Layers, Layer{Digest: layer.Digest.String(), MediaType: layer.MediaType, Size: layer.Size})
	}
	return inspection, nil
}

func listTags(ctx context.Context, system *imagetypes.SystemContext, ref imagetypes.ImageReference) (tags []string, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tagsTimeout)
	defer cancel()
	tags, err = docker.GetRepositoryTags(ctx, system, ref)
	if err != nil {
		return nil, false, fmt.Errorf("list the repository's tags: %w", err)
	}
	if len(tags) > maxTags {
		return tags[:maxTags], true, nil
	}
	return tags, false, nil
}
