package storage

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"go.podman.io/storage/types"
	"golang.org/x/sync/semaphore"
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
	holds   *holds
	removed *removedLayers
	beside  *background
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
	s, err := newStore(options, disk, pinned)
	if err != nil {
		disk.close()
		return nil, err
	}
	if err := s.recover(); err != nil {
		s.Close()
		return nil, err
	}
	s.keepReserves()
	s.beside.do(s.holds.keepSettled)
	return s, nil
}

// newStore puts the parts together.
func newStore(options Options, disk *disk, pinned pinnedPatterns) (*Store, error) {
	if err := disk.makeWritableRoot(); err != nil {
		return nil, err
	}
	driver, err := newWritableDriver(disk)
	if err != nil {
		return nil, err
	}
	if err := disk.layout.labelLayers(options.LayerLabel); err != nil {
		return nil, err
	}
	beside := newBackground()
	library := &libraryLayers{disk}
	holds := &holds{disk: disk, library: library, parents: map[string]string{}}
	removed := &removedLayers{disk: disk, beside: newBackground(), turn: semaphore.NewWeighted(1)}
	layers := &layers{disk: disk, driver: driver, holds: holds, library: library, removed: removed, turns: &turns{}}
	usage := newUsage(disk)
	images := &Images{
		disk:        disk,
		catalog:     newCatalog(disk, pinned),
		shortNames:  options.ShortNames,
		orphanGrace: options.OrphanGrace,
		usage:       usage,
		holds:       holds,
	}
	volumes := &Volumes{disk: disk, layers: layers, images: images}
	return &Store{
		disk:     disk,
		Images:   images,
		Rootfses: &Rootfses{disk: disk, layers: layers, images: images, volumes: volumes, usage: usage},
		Volumes:  volumes,
		Usage:    usage,
		options:  options,
		holds:    holds,
		removed:  removed,
		beside:   beside,
	}, nil
}

// makeWritableRoot makes what layers outside of the library need.
func (d *disk) makeWritableRoot() error {
	for _, dir := range []string{d.layout.writableRoot(), d.layout.rootfsRecords(), d.layout.removed()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the store. Root filesystems stay mounted: containers go on without the
// daemon.
func (s *Store) Close() {
	s.Usage.end()
	s.beside.end()
	s.removed.beside.end()
	s.disk.close()
}
