package storage

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	library "go.podman.io/storage"
	"go.podman.io/storage/types"
)

// A disk is what all parts of a Store work on: the library's store, and where things are
// in it.
type disk struct {
	lib    library.Store
	layout layout
	log    *slog.Logger
	now    func() time.Time
	// syncs says that fsync in containers waits for the disk, as storage.conf can want it.
	syncs bool
}

// librarySessions guards the library's own list of open stores, which its Free
// changes without a lock.
var librarySessions sync.Mutex

func openDisk(settings types.StoreOptions, log *slog.Logger) (*disk, error) {
	lib, err := openLibrary(settings)
	if err != nil {
		return nil, err
	}
	d := &disk{lib: lib, log: log, now: time.Now, syncs: settings.DisableVolatile}
	if d.layout, err = layoutOf(lib); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func openLibrary(settings types.StoreOptions) (library.Store, error) {
	librarySessions.Lock()
	defer librarySessions.Unlock()
	unpackSmallLayers()
	lib, err := library.GetStore(settings)
	if err != nil {
		return nil, err
	}
	if driver, err := lib.GraphDriver(); err == nil {
		// The driver finds out at the first question whether ids can be mapped, and
		// writes it down without a lock. Nobody else asks yet.
		driver.SupportsShifting(nil, nil)
	}
	return lib, nil
}

func (d *disk) close() {
	librarySessions.Lock()
	defer librarySessions.Unlock()
	d.lib.Free()
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
	// The kernel lists mounts by their real paths.
	for _, root := range []*string{&l.graphRoot, &l.imageRoot, &l.runRoot} {
		if *root, err = filepath.EvalSymlinks(*root); err != nil {
			return layout{}, err
		}
	}
	// The library chooses by itself if it was given a list to choose from.
	return l, isDriver(l.driver)
}
