package storage

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	library "go.podman.io/storage"
	"go.podman.io/storage/types"
	"golang.org/x/sync/semaphore"
)

// Store is a containers/storage store. Its methods may be called concurrently.
type Store struct {
	lib     library.Store
	options Options
	log     *slog.Logger
	layout  layout
	pinned  pinnedPatterns
	now     func() time.Time

	index   atomic.Pointer[imageIndex]
	loading *semaphore.Weighted // one caller reloads the index, the others wait for it

	usage     usageCache
	measuring *semaphore.Weighted // one caller walks a layer, the others wait for it
	beside    *background

	pulls    gate
	removals atomic.Uint64
}

// librarySessions guards the library's own list of open stores, which its Free
// changes without a lock.
var librarySessions sync.Mutex

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
			options.Logger.Warn("short names of layers could not be put right", "store", root, "error", err)
		}
	}
	librarySessions.Lock()
	lib, err := library.GetStore(settings)
	librarySessions.Unlock()
	if err != nil {
		return nil, err
	}
	s := &Store{
		lib:       lib,
		options:   options,
		log:       options.Logger,
		pinned:    pinned,
		now:       time.Now,
		loading:   semaphore.NewWeighted(1),
		measuring: semaphore.NewWeighted(1),
		beside:    newBackground(),
	}
	if s.layout, err = layoutOf(lib); err != nil {
		s.Close()
		return nil, err
	}
	s.usage.load(filepath.Join(s.layout.graphRoot, usageCacheFile))
	if err := s.recover(); err != nil {
		s.Close()
		return nil, err
	}
	s.keepReserves()
	return s, nil
}

func layoutOf(lib library.Store) (layout, error) {
	driver, err := lib.GraphDriver()
	if err != nil {
		return layout{}, fmt.Errorf("reach the graph driver: %w", err)
	}
	l := layout{
		driver:        driver.String(),
		graphRoot:     lib.GraphRoot(),
		imageRoot:     cmp.Or(lib.ImageStore(), lib.GraphRoot()),
		runRoot:       lib.RunRoot(),
		readOnlyRoots: driver.AdditionalImageStores(),
	}
	// The kernel tells of mounts by their real paths.
	for _, root := range []*string{&l.graphRoot, &l.imageRoot, &l.runRoot} {
		if *root, err = filepath.EvalSymlinks(*root); err != nil {
			return layout{}, err
		}
	}
	// The library chooses by itself if it was given a list to choose from.
	return l, isDriver(l.driver)
}

// Close forgets the store. Root filesystems stay mounted: containers go on without
// the daemon.
func (s *Store) Close() {
	s.beside.end()
	librarySessions.Lock()
	defer librarySessions.Unlock()
	s.lib.Free()
}

// Reference gives the place of an image called name in this store, as something
// that the image library can copy to.
func (s *Store) Reference(name reference.Named) (imagetypes.ImageReference, error) {
	ref, err := istorage.Transport.NewStoreReference(s.lib, name, "")
	if err != nil {
		return nil, fmt.Errorf("name image %s in the store: %w", name, err)
	}
	return ref, nil
}

// ImageIDAt gives the id of the image that a reference of this store (one that a
// finished copy reported) stands for.
func (s *Store) ImageIDAt(ctx context.Context, ref imagetypes.ImageReference) (string, error) {
	_, record, err := istorage.ResolveReference(ref)
	if err != nil {
		return "", fmt.Errorf("find image %s: %w", ref.StringWithinTransport(), err)
	}
	return record.ID, ctx.Err()
}
