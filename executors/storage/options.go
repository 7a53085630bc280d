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

// Options say where a Store lives and how it behaves. They override storage.conf, and that
// overrides the library's defaults.
type Options struct {
	// StorageConf is the configuration file of containers/storage. When empty, the
	// library's usual files are read: see readStorageConf.
	StorageConf string
	// GraphRoot holds layers and records and survives a reboot; RunRoot holds what does not
	// survive a reboot (mount counts, locks). The defaults are podman's:
	// /var/lib/containers/storage and /run/containers/storage.
	GraphRoot, RunRoot string
	// ImageStore, when not empty, holds the images' layers and records; GraphRoot then
	// holds only the containers'.
	ImageStore string
	// Driver is the graph driver: overlay (the default) or vfs.
	Driver string
	// DriverOptions are passed to the driver, in the words of CRI-O's storage_option
	// ("overlay.mountopt=nodev"). If there are any, they replace all driver options of
	// storage.conf, including the additional image stores.
	//
	// Stele adds skip_mount_home=true unless it is set: otherwise the driver bind-mounts
	// its directory onto itself, a mount that outlives the daemon. Each root filesystem is
	// made private by itself.
	DriverOptions []string
	// Pinned are patterns of names of images that must not be garbage collected: see
	// pinned.go.
	Pinned []string
	// ShortNames returns the full names that a name without a registry may stand for, in
	// order of preference (package registry reads them from registries.conf). When nil,
	// docker.io is assumed.
	ShortNames func(name string) ([]string, error)
	// OrphanGrace replaces DefaultOrphanGrace when it is not zero.
	OrphanGrace time.Duration
	// LayerLabel is the SELinux label of layers' files; it must be empty where SELinux is off.
	LayerLabel string
	// Logger receives errors that were recovered from; nil means slog.Default.
	Logger *slog.Logger
}

// settings merges these options with storage.conf.
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
