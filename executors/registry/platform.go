package registry

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	imagetypes "go.podman.io/image/v5/types"
)

// maxPlatformsNamed bounds how many of an index's platforms an error names.
const maxPlatformsNamed = 16

// architecture returns Go's name of an architecture, whatever an image calls it: Docker
// writes what it is given, often the output of uname(1).
func architecture(name string) string {
	switch name = strings.ToLower(name); name {
	case "x86_64", "x86-64", "x64":
		return "amd64"
	case "i386", "i486", "i586", "i686", "x86":
		return "386"
	case "aarch64", "armv8", "armv8l":
		return "arm64"
	case "armhf", "armel", "armv7l", "armv6l", "armv7", "armv6":
		return "arm"
	case "ppc64el":
		return "ppc64le"
	}
	return name
}

// runsHere reports whether programs for an architecture run on this machine: an amd64
// kernel also runs those for 386.
func runsHere(name string) bool {
	name = architecture(name)
	return name == runtime.GOARCH || runtime.GOARCH == "amd64" && name == "386"
}

// isLinux takes an image without an operating system for one of Linux, as very old ones
// are.
func isLinux(os string) bool { return os == "" || strings.EqualFold(os, "linux") }

// checkPlatform refuses an image for another operating system, unless its platform is among
// others. Another architecture is only a warning: builders that cross-compile often leave that of
// their own machine there, and other runtimes run such images.
func checkPlatform(config *imagespec.Image, others []string) (warning string, err error) {
	if slices.Contains(others, config.OS+"/"+config.Architecture) {
		return "", nil
	}
	if !isLinux(config.OS) {
		return "", fmt.Errorf("%w: this is %s, the image is for %s/%s", ErrUnsupportedPlatform, here(), config.OS, config.Architecture)
	}
	if config.Architecture != "" && !runsHere(config.Architecture) {
		return fmt.Sprintf("this is %s, and it says that it is for %s/%s", here(), config.OS, config.Architecture), nil
	}
	return "", nil
}

func here() string { return "linux/" + runtime.GOARCH }

// choose finds this platform's image in an index, or else one for others. If its architecture is
// not spelled as Go does, or is one that runs here, too, it goes into system: the library chooses
// again when it copies, by the same settings.
func choose(list manifest.List, system *imagetypes.SystemContext, others []string) error {
	_, err := list.ChooseInstance(system)
	if err == nil {
		return nil
	}
	all := platformsOf(list)
	usable := slices.DeleteFunc(slices.Clone(all), func(p imagespec.Platform) bool {
		return !strings.EqualFold(p.OS, "linux") || !runsHere(p.Architecture)
	})
	if len(usable) == 0 {
		usable = slices.DeleteFunc(all, func(p imagespec.Platform) bool { return !slices.Contains(others, p.OS+"/"+p.Architecture) })
	}
	if len(usable) == 0 {
		return err
	}
	// This machine's own comes first, then the variant that needs the least.
	found := slices.MinFunc(usable, func(a, b imagespec.Platform) int {
		return cmp.Or(cmp.Compare(foreign(a), foreign(b)), cmp.Compare(a.Variant, b.Variant))
	})
	system.OSChoice, system.ArchitectureChoice, system.VariantChoice = found.OS, found.Architecture, found.Variant
	return nil
}

// foreign is 0 for this machine's architecture and 1 for others.
func foreign(p imagespec.Platform) int {
	if architecture(p.Architecture) == runtime.GOARCH {
		return 0
	}
	return 1
}

// platformsOf returns the platforms of an index.
func platformsOf(list manifest.List) []imagespec.Platform {
	var found []imagespec.Platform
	for _, instance := range list.Instances() {
		if description, err := list.Instance(instance); err == nil && description.ReadOnly.Platform != nil {
			found = append(found, *description.ReadOnly.Platform)
		}
	}
	return found
}

// platforms names the platforms of an index.
func platforms(list manifest.List) []string {
	var names []string
	for _, platform := range platformsOf(list) {
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
