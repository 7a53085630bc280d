package registry

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	imagetypes "go.podman.io/image/v5/types"
)

// candidates are the full names that a user's name may stand for, each with a tag or a
// digest, in the order of trying.
type candidates []reference.Named

// ShortNames returns a function for storage.Options.ShortNames: the full names that a name
// without a registry may have in the store. The order is that of the other container tools:
// the alias of registries.conf, localhost (where builds put such names), the search
// registries. dir is Options.Dir.
func ShortNames(registriesConf, registriesConfDir, dir string) func(name string) ([]string, error) {
	system := &imagetypes.SystemContext{
		SystemRegistriesConfPath:    registriesConf,
		SystemRegistriesConfDirPath: registriesConfDir,
		UserShortNameAliasConfPath:  filepath.Join(dir, cacheDir, aliasesFile),
	}
	return func(name string) ([]string, error) {
		if _, err := reference.ParseNormalizedNamed(name); err != nil {
			return nil, err
		}
		if !isShort(name) {
			return []string{name}, nil
		}
		short, err := look(system, name)
		if err != nil {
			return nil, err
		}
		var names []string
		if short.alias != nil {
			names = append(names, short.alias.String())
		}
		for _, registry := range append([]string{"localhost"}, short.registries...) {
			names = append(names, registry+"/"+name)
		}
		return names, nil
	}
}

// resolve returns the full names to pull an image by. Only registries.conf completes a name
// without a registry, as with CRI-O: docker.io is never assumed.
func resolve(system *imagetypes.SystemContext, name string) (candidates, error) {
	if !isShort(name) {
		named, err := complete(name)
		if err != nil {
			return nil, err
		}
		return candidates{named}, nil
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		return nil, err
	}
	short, err := look(system, name)
	if err != nil {
		return nil, err
	}
	if short.alias != nil {
		named, err := complete(short.alias.String())
		if err != nil {
			return nil, err
		}
		return candidates{named}, nil
	}
	switch mode, err := shortNameMode(system); {
	case err != nil:
		return nil, fmt.Errorf("read short-name-mode: %w", err)
	case len(short.registries) == 0:
		return nil, fmt.Errorf("%q names no registry, has no alias, and registries.conf has no unqualified-search-registries", name)
	case mode == imagetypes.ShortNameModeEnforcing && len(short.registries) > 1:
		return nil, fmt.Errorf("%q names no registry, and short-name-mode is enforcing, so it cannot be searched for in %s",
			name, strings.Join(short.registries, ", "))
	}
	var found candidates
	for _, registry := range short.registries {
		named, err := complete(registry + "/" + name)
		if err != nil {
			return nil, fmt.Errorf("search in %s: %w", registry, err)
		}
		found = append(found, named)
	}
	return found, nil
}

// shortNameMode is that of the options, or else of registries.conf.
func shortNameMode(system *imagetypes.SystemContext) (imagetypes.ShortNameMode, error) {
	if system.ShortNameMode != nil {
		return *system.ShortNameMode, nil
	}
	return sysregistriesv2.GetShortNameMode(system)
}

// shortName is what registries.conf has for a name without a registry.
type shortName struct {
	alias      reference.Named // with the tag and digest that the user gave; nil if there is none
	registries []string        // to search
}

func look(system *imagetypes.SystemContext, name string) (shortName, error) {
	parsed, err := reference.Parse(name)
	if err != nil {
		return shortName{}, err
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return shortName{}, fmt.Errorf("%q is not a name", name)
	}
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(system, reference.TrimNamed(named).String())
	if err != nil {
		return shortName{}, fmt.Errorf("read short-name aliases: %w", err)
	}
	if alias != nil {
		if tagged, ok := named.(reference.Tagged); ok {
			if alias, err = reference.WithTag(alias, tagged.Tag()); err != nil {
				return shortName{}, err
			}
		}
		if digested, ok := named.(reference.Digested); ok {
			if alias, err = reference.WithDigest(alias, digested.Digest()); err != nil {
				return shortName{}, err
			}
		}
	}
	registries, err := sysregistriesv2.UnqualifiedSearchRegistries(system)
	if err != nil {
		return shortName{}, fmt.Errorf("read registries.conf: %w", err)
	}
	return shortName{alias: alias, registries: registries}, nil
}

// isShort reports whether a name has no registry: the part before the first slash is one
// only if it looks like a host.
func isShort(name string) bool {
	first, _, found := strings.Cut(name, "/")
	return !found || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first
}

// complete adds the tag "latest" if there is neither tag nor digest, and drops a tag beside
// a digest.
func complete(name string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	if digested, ok := named.(reference.Digested); ok {
		return reference.WithDigest(reference.TrimNamed(named), digested.Digest())
	}
	return reference.TagNameOnly(named), nil
}
