package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Storage says where images are kept. Without it they are below the daemon's own
// directories.
type Storage struct {
	// Conf is a storage.conf that counts whole, its directories included: the way to
	// share a store with podman and CRI-O. Empty: of the node's storage.conf only the
	// options of the driver count.
	Conf string `toml:"conf"`
	// Root and RunRoot replace the store's directories, ImageStore keeps images apart
	// from containers.
	Root       string `toml:"root"`
	RunRoot    string `toml:"runroot"`
	ImageStore string `toml:"imagestore"`
	// Driver is overlay or vfs, Options are as for CRI-O's storage_option.
	Driver  string   `toml:"storage_driver"`
	Options []string `toml:"storage_option"`
}

func (s *Storage) check() error {
	problems := []error{file("storage.conf", s.Conf)}
	for _, d := range []struct {
		key  string
		path *string
	}{
		{"storage.root", &s.Root}, {"storage.runroot", &s.RunRoot}, {"storage.imagestore", &s.ImageStore},
	} {
		problems = append(problems, dir(d.key, *d.path), resolve(d.key, d.path))
		if strings.ContainsAny(*d.path, ",:") {
			problems = append(problems, refuse(d.key, *d.path, "has a comma or a colon, which overlay mounts cannot carry"))
		}
	}
	if s.ImageStore != "" && s.ImageStore == s.Root {
		problems = append(problems, refuse("storage.imagestore", s.ImageStore, "is the same directory as storage.root"))
	}
	if !slices.Contains([]string{"", "overlay", "overlay2", "vfs"}, s.Driver) {
		problems = append(problems, refuse("storage.storage_driver", s.Driver, "is neither overlay nor vfs"))
	}
	for i, option := range s.Options {
		if key, _, ok := strings.Cut(option, "="); !ok || key == "" {
			problems = append(problems, refuse(fmt.Sprintf("storage.storage_option[%d]", i), option, "is not KEY=VALUE"))
		}
	}
	return errors.Join(problems...)
}
