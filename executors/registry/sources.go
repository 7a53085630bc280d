package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/distribution/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	imagetypes "go.podman.io/image/v5/types"
)

// A source is a place from which an image can be fetched: a mirror, or the registry of its
// name.
type source struct {
	// place is the image's name there.
	place reference.Named
	// system has the credentials, and knows this source and no other.
	system *imagetypes.SystemContext
	// blocked says that registries.conf forbids it.
	blocked bool
}

// sources are those that registries.conf has for an image, in its order: mirrors first.
//
// The library tries the next source only if one refuses at once: one that hangs takes all
// the time there is, and one that sends half a layer ends the pull. So each source is asked
// by itself, with a registries.conf that has no other.
func (j *job) sources(name reference.Named) ([]source, error) {
	system, err := j.systemFor(name)
	if err != nil {
		return nil, err
	}
	registry, err := sysregistriesv2.FindRegistry(j.system, name.Name())
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if registry == nil || len(registry.Mirrors) == 0 {
		return []source{{place: name, system: system}}, nil
	}
	places, err := registry.PullSourcesFromReference(name)
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	sources := make([]source, len(places))
	for i, place := range places {
		if sources[i], err = j.sourceAt(name, place, system); err != nil {
			return nil, err
		}
	}
	return sources, nil
}

// onlySource is a registries.conf with one source, and with what else counts for it.
type onlySource struct {
	Registries        []sysregistriesv2.Registry `toml:"registry"`
	CredentialHelpers []string                   `toml:"credential-helpers,omitempty"`
	LayerStoreHelper  string                     `toml:"additional-layer-store-auth-helper,omitempty"`
}

func (j *job) sourceAt(name reference.Named, place sysregistriesv2.PullSource, system *imagetypes.SystemContext) (source, error) {
	fail := func(err error) (source, error) {
		return source{}, fmt.Errorf("read registries.conf for %s: %w", place.Reference, err)
	}
	// The library asks the same of the place before it goes there.
	registry, err := sysregistriesv2.FindRegistry(j.system, place.Reference.Name())
	if err != nil {
		return fail(err)
	}
	if registry != nil && registry.Blocked {
		return source{place: place.Reference, blocked: true}, nil
	}
	conf := onlySource{Registries: []sysregistriesv2.Registry{{
		Prefix: name.Name(),
		Endpoint: sysregistriesv2.Endpoint{
			Location: place.Reference.Name(), Insecure: place.Endpoint.Insecure, NamespaceProxy: place.Endpoint.NamespaceProxy,
		},
	}}}
	if conf.CredentialHelpers, err = sysregistriesv2.CredentialHelpers(j.system); err != nil {
		return fail(err)
	}
	if conf.LayerStoreHelper, err = sysregistriesv2.AdditionalLayerStoreAuthHelper(j.system); err != nil {
		return fail(err)
	}
	content, err := toml.Marshal(conf)
	if err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp(j.temp, "source-")
	if err != nil {
		return fail(err)
	}
	only := *system
	only.SystemRegistriesConfPath = filepath.Join(dir, "registries.conf")
	only.SystemRegistriesConfDirPath = filepath.Join(dir, "registries.conf.d") // which is not there
	if err := os.WriteFile(only.SystemRegistriesConfPath, content, 0o600); err != nil {
		return fail(err)
	}
	return source{place: place.Reference, system: &only}, nil
}

// fromSources tries the sources of an image in turn until one works, and does so again
// after failures that may pass. A source that stalled is not asked again: it has had its
// time.
func (j *job) fromSources(ctx context.Context, name reference.Named, try func(*imagetypes.SystemContext) error) error {
	if err := j.notBlocked(name); err != nil {
		return err
	}
	sources, err := j.sources(name)
	if err != nil {
		return err
	}
	failures := make([]error, len(sources))
	return j.p.again(ctx, func() error {
		for i, source := range sources {
			if errors.Is(failures[i], ErrStalled) {
				continue
			}
			if source.blocked {
				failures[i] = fmt.Errorf("%w: registries.conf blocks %s", ErrBlocked, source.place.Name())
				continue
			}
			failures[i] = try(source.system)
			if failures[i] == nil || endsSearch(ctx, failures[i]) {
				return failures[i]
			}
		}
		if len(sources) == 1 {
			return failures[0]
		}
		return failedAtSources(sources, failures)
	})
}

// endsSearch reports whether another source would be of no use: the caller is gone, the
// disk is full, or the name is an artifact's.
func endsSearch(ctx context.Context, err error) bool {
	return ctx.Err() != nil || isFull(err) || errors.Is(err, ErrArtifact)
}

// failedAtSources joins what went wrong at the sources. It is of the kind of the last one,
// the registry of the image's name: mirrors come and go.
func failedAtSources(sources []source, failures []error) error {
	texts := make([]string, len(sources))
	for i, failure := range failures {
		texts[i] = fmt.Sprintf("from %s: %v", sources[i].place, failure)
	}
	return &joined{kind: failures[len(failures)-1], text: strings.Join(texts, "; ")}
}
