package registry

import (
	"fmt"
	"strings"
)

// A transport is a kind of place for images, as in containers-transports(5).
type transport string

const (
	inRegistry      transport = "docker"
	inStore         transport = "containers-storage"
	inLayout        transport = "oci"
	inLayoutArchive transport = "oci-archive"
	inDockerArchive transport = "docker-archive"
)

// place is where an image is, according to the user.
type place struct {
	transport transport
	// name is the image's name in a registry or the store.
	name string
	// path is the archive's; image is the one in it, or empty.
	path, image string
}

// parsePlace parses TRANSPORT:PATH[:IMAGE], containers-storage:NAME, docker://NAME and
// NAME.
func parsePlace(text string) (place, error) {
	before, after, _ := strings.Cut(text, ":")
	switch t := transport(before); t {
	case inRegistry:
		if name, found := strings.CutPrefix(after, "//"); found {
			return place{transport: inRegistry, name: name}, nil
		}
	case inStore:
		return place{transport: inStore, name: after}, nil
	case inLayout, inLayoutArchive, inDockerArchive:
		path, image, _ := strings.Cut(after, ":")
		if path == "" {
			return place{}, fmt.Errorf("%w: %q has no path", ErrInvalidReference, text)
		}
		return place{transport: t, path: path, image: image}, nil
	}
	return place{transport: inRegistry, name: text}, nil
}
