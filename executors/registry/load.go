package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/distribution/reference"
)

// Loaded is an image that was loaded.
type Loaded struct {
	// ImageID is the id of the image in the store, Name its full name there.
	ImageID, Name string
	// Digest is that of the archive's manifest or index.
	Digest string
}

// LoadRequest asks to load an archive's images.
type LoadRequest struct {
	// Source is oci:DIRECTORY[:IMAGE], oci-archive:FILE[:IMAGE] or
	// docker-archive:FILE[:IMAGE]. Without IMAGE all are loaded.
	Source string
	// Name replaces the names in the archive; then the source must be one image. The
	// default registry is localhost.
	Name string
	// Progress is as for a pull; several images are reported one after the other.
	Progress func(Event)
}

// Load copies an archive's images into the store, under their names. Signature policy, with
// the scopes of the transport, and checks are those of a pull. Its errors are *Error;
// images loaded before the error stay, and are returned with it.
func (p *Puller) Load(ctx context.Context, request LoadRequest) ([]Loaded, error) {
	j, err := p.begin(jobRequest{op: "load", subject: request.Source, progress: request.Progress})
	if err != nil {
		return nil, err
	}
	defer j.end()
	done, err := p.options.Store.BeginPull(ctx)
	if err != nil {
		return nil, j.fail(ctx, err)
	}
	defer func() { done(err) }()
	defer p.options.Pulling()()
	loaded, err := j.load(ctx, request)
	if err != nil {
		return loaded, j.fail(ctx, err)
	}
	return loaded, nil
}

func (j *job) load(ctx context.Context, request LoadRequest) ([]Loaded, error) {
	where, err := parsePlace(request.Source)
	if err != nil {
		return nil, err
	}
	archive, err := j.openArchive(where)
	if err != nil {
		return nil, err
	}
	defer archive.close()
	if request.Name != "" {
		name, err := givenName(request.Name)
		switch {
		case err != nil:
			return nil, err
		case len(archive.images) != 1:
			return nil, fmt.Errorf("%w: it has %d images, and they cannot all be named %s", ErrInvalidReference, len(archive.images), name)
		}
		archive.images[0].names = []reference.Named{name}
	}
	var loaded []Loaded
	for i, image := range archive.images {
		if len(image.names) == 0 {
			return loaded, fmt.Errorf("%w: image %d of %d in it has no name, give it one", ErrInvalidReference, i+1, len(archive.images))
		}
		for _, name := range image.names {
			made, err := j.copyUndisturbed(ctx, transfer{name: name, source: image.source, system: j.system})
			if errors.Is(err, fs.ErrNotExist) && kindOf(err) == nil {
				err = fmt.Errorf("%w: it lacks a part: %w", ErrInvalidImage, err)
			}
			if err != nil {
				return loaded, fmt.Errorf("%s: %w", name, err)
			}
			loaded = append(loaded, Loaded{ImageID: made.id, Name: name.String(), Digest: made.found.resolved.Digest})
		}
	}
	return loaded, nil
}

func givenName(text string) (reference.Named, error) {
	if isShort(text) {
		text = localRegistry + "/" + text
	}
	name, err := complete(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	if _, digested := name.(reference.Digested); digested {
		return nil, fmt.Errorf("%w: the name %s has a digest, but is to be given", ErrInvalidReference, name)
	}
	return name, nil
}
