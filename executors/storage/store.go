package storage

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"

	"go.podman.io/storage/types"
)

// Store is a containers/storage store, by what it holds. The methods of all its parts may
// be called concurrently.
type Store struct {
	*disk
	Images   *Images
	Rootfses *Rootfses
	Volumes  *Volumes
	Usage    *Usage

	options Options
}

// Open opens the store, creating it if there is none, and removes what a crashed
// process left half made. It never removes a complete image or a root filesystem.
func Open(options Options) (*Store, error) {
	if options.OrphanGrace == 0 {
		options.OrphanGrace = DefaultOrphanGrace
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	settings, err := options.settings()
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s, err := openStore(options, settings)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", settings.GraphRoot, err)
	}
	return s, nil
}

func openStore(options Options, settings types.StoreOptions) (*Store, error) {
	pinned, err := parsePinned(options.Pinned)
	if err != nil {
		return nil, err
	}
	if err := setAsideDamagedIndexes(settings, options.Logger); err != nil {
		return nil, err
	}
	for _, root := range slices.Compact([]string{settings.GraphRoot, cmp.Or(settings.ImageStore, settings.GraphRoot)}) {
		if err := repairLinks(root); err != nil {
			options.Logger.Warn("short names of layers could not be repaired", "store", root, "error", err)
		}
	}
	disk, err := openDisk(settings, options.Logger)
	if err != nil {
		return nil, err
	}
	if err := disk.layout.labelLayers(options.LayerLabel); err != nil {
		disk.close()
		return nil, err
	}
	layers := &layers{disk}
	usage := newUsage(disk)
	images := &Images{
		disk:        disk,
		catalog:     newCatalog(disk, pinned),
		shortNames:  options.ShortNames,
		orphanGrace: options.OrphanGrace,
		usage:       usage,
	}
	volumes := &Volumes{disk: disk, layers: layers, images: images}
	s := &Store{
		disk:     disk,
		Images:   images,
		Rootfses: &Rootfses{disk: disk, layers: layers, images: images, volumes: volumes, usage: usage},
		Volumes:  volumes,
		Usage:    usage,
		options:  options,
	}
	if err := s.recover(); err != nil {
		s.Close()
		return nil, err
	}
	s.keepReserves()
	return s, nil
}

// Close closes the store. Root filesystems stay mounted: containers go on without the
// daemon.
func (s *Store) Close() {
	s.Usage.end()
	s.disk.close()
}
