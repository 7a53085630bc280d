package storage

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.podman.io/storage/types"
)

// DefaultOrphanGrace is how long a layer may exist without an image. A pull that
// was cut off leaves complete layers, which a retry reuses; the kubelet's retries
// are at most five minutes apart.
const DefaultOrphanGrace = time.Hour

// Options say where a Store lives and how it behaves. What is said here goes before
// what storage.conf says, and that before the library's defaults.
type Options struct {
	// StorageConf is the configuration file of containers/storage. When it is empty,
	// the files count that every program with this library reads: see
	// readStorageConf.
	StorageConf string
	// GraphRoot holds layers and records and survives a reboot; RunRoot holds what
	// a reboot makes meaningless (mount counts, locks). Without them and without
	// storage.conf they are those of podman: /var/lib/containers/storage and
	// /run/containers/storage.
	GraphRoot, RunRoot string
	// ImageStore, when not empty, holds the images' layers and records instead of
	// GraphRoot, which then has the containers' alone.
	ImageStore string
	// Driver is the graph driver: overlay (also when nothing is said anywhere) or vfs.
	Driver string
	// DriverOptions are passed to the driver, in the words of CRI-O's storage_option
	// ("overlay.mountopt=nodev"). If there are any, they take the place of all driver
	// options in storage.conf, the additional image stores among them.
	//
	// Stele adds skip_mount_home=true unless it is set: the driver would otherwise
	// bind-mount its directory onto itself, a mount that outlives the daemon. Root
	// filesystems are made private one by one.
	DriverOptions []string
	// Pinned are patterns of image names that must not be garbage collected: see
	// pinned.go.
	Pinned []string
	// ShortNames gives the names under which an image may be in the store when a
	// user wrote a name without a registry, in order of preference (package
	// registry reads them from registries.conf). When nil, docker.io is assumed.
	ShortNames func(name string) ([]string, error)
	// OrphanGrace replaces DefaultOrphanGrace when it is not zero.
	OrphanGrace time.Duration
	// Logger receives what went wrong and was recovered from; nil means
	// slog.Default.
	Logger *slog.Logger
}

// settings puts together what these options and storage.conf say.
func (o *Options) settings() (types.StoreOptions, error) {
	conf, err := readStorageConf(o.StorageConf, o.Logger)
	if err != nil {
		return types.StoreOptions{}, err
	}
	settings, err := conf.options()
	if err != nil {
		return types.StoreOptions{}, fmt.Errorf("storage.conf %s: %w", strings.Join(conf.files, ", "), err)
	}
	settings.GraphRoot = cmp.Or(o.GraphRoot, settings.GraphRoot)
	settings.RunRoot = cmp.Or(o.RunRoot, settings.RunRoot)
	settings.ImageStore = cmp.Or(o.ImageStore, settings.ImageStore)
	settings.GraphDriverName = cmp.Or(o.Driver, settings.GraphDriverName)
	if len(o.DriverOptions) > 0 {
		settings.GraphDriverOptions = slices.Clone(o.DriverOptions)
	}
	switch {
	case settings.GraphDriverName == "overlay2":
		settings.GraphDriverName = overlayDriver
	case settings.GraphDriverName == "" && len(settings.GraphDriverPriority) == 0:
		settings.GraphDriverName = overlayDriver
	}
	if !slices.ContainsFunc(settings.GraphDriverOptions, func(o string) bool { return strings.Contains(o, "skip_mount_home") }) {
		settings.GraphDriverOptions = append(settings.GraphDriverOptions, overlayDriver+".skip_mount_home=true")
	}
	return settings, checkSettings(settings)
}

func checkSettings(settings types.StoreOptions) error {
	if settings.GraphDriverName != "" {
		if err := isDriver(settings.GraphDriverName); err != nil {
			return fmt.Errorf("graph driver %q: %w", settings.GraphDriverName, err)
		}
	}
	for _, root := range []string{settings.GraphRoot, settings.RunRoot, settings.ImageStore} {
		if root == "" {
			continue
		}
		if err := isRoot(root); err != nil {
			return fmt.Errorf("directory %q: %w", root, err)
		}
		if strings.ContainsAny(root, ",:") {
			return fmt.Errorf("directory %q: overlay mounts cannot have a comma or colon in their path", root)
		}
	}
	if settings.ImageStore == settings.GraphRoot {
		return errors.New("the image store is the same directory as the graph root")
	}
	return nil
}
