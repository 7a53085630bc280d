package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	istorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	library "go.podman.io/storage"
	"golang.org/x/sync/semaphore"
)

// driverName is the only graph driver that is supported: root filesystems here are
// overlay mounts, and release.go knows where the driver mounts them.
const driverName = "overlay"

// DefaultOrphanGrace is how long a layer may exist without an image. A pull that
// was cut off leaves complete layers, which a retry reuses; the kubelet's retries
// are at most five minutes apart.
const DefaultOrphanGrace = time.Hour

// Options say where a Store lives and how it behaves. GraphRoot and RunRoot are
// required, the rest has defaults.
type Options struct {
	// GraphRoot holds layers and records and survives a reboot; RunRoot holds what
	// a reboot makes meaningless (mount counts, locks).
	GraphRoot, RunRoot string
	// Driver is the graph driver: "overlay", also when empty.
	Driver string
	// DriverOptions are passed to the driver, in storage.conf's words
	// ("overlay.mountopt=nodev"). Stele adds skip_mount_home=true unless it is
	// set here: the driver would otherwise bind-mount its directory onto itself, a
	// mount that outlives the daemon. Root filesystems are made private one by one.
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

// Store is a containers/storage store. Its methods may be called concurrently.
type Store struct {
	lib     library.Store
	options Options
	log     *slog.Logger
	pinned  pinnedPatterns
	now     func() time.Time

	imageRoots []string // where image records are: ours, and additional read-only ones

	index   atomic.Pointer[imageIndex]
	loading *semaphore.Weighted // one caller reloads the index, the others wait for it

	usage     usageCache
	measuring *semaphore.Weighted // one caller walks the layers, the others wait for it

	pulls gate
}

// librarySessions guards the library's own list of open stores, which its Free
// changes without a lock.
var librarySessions sync.Mutex

// Open opens the store, creating it if there is none, and removes what a crashed
// process left half made. It never removes a complete image or a root filesystem.
func Open(options Options) (*Store, error) {
	if options.GraphRoot == "" || options.RunRoot == "" {
		return nil, errors.New("open image store: graph root and run root must both be given")
	}
	if options.Driver != "" && options.Driver != driverName {
		return nil, fmt.Errorf("open image store %s: graph driver %q is not supported, only %q",
			options.GraphRoot, options.Driver, driverName)
	}
	if strings.ContainsAny(options.GraphRoot, ",:") {
		return nil, fmt.Errorf("open image store %s: overlay mounts cannot have a comma or colon in their path",
			options.GraphRoot)
	}
	pinned, err := parsePinned(options.Pinned)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", options.GraphRoot, err)
	}
	if options.OrphanGrace == 0 {
		options.OrphanGrace = DefaultOrphanGrace
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	if err := setAsideDamagedIndexes(options.GraphRoot, options.Logger); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", options.GraphRoot, err)
	}
	lib, err := openLibrary(options)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", options.GraphRoot, err)
	}
	s := &Store{
		lib:        lib,
		options:    options,
		log:        options.Logger,
		pinned:     pinned,
		now:        time.Now,
		imageRoots: []string{options.GraphRoot},
		loading:    semaphore.NewWeighted(1),
		measuring:  semaphore.NewWeighted(1),
	}
	s.usage.load(filepath.Join(options.GraphRoot, usageCacheFile))
	if err := s.recover(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open image store %s: %w", options.GraphRoot, err)
	}
	return s, nil
}

func openLibrary(options Options) (library.Store, error) {
	driverOptions := slices.Clone(options.DriverOptions)
	if !slices.ContainsFunc(driverOptions, func(o string) bool { return strings.Contains(o, "skip_mount_home") }) {
		driverOptions = append(driverOptions, driverName+".skip_mount_home=true")
	}
	librarySessions.Lock()
	defer librarySessions.Unlock()
	return library.GetStore(library.StoreOptions{
		GraphRoot:          options.GraphRoot,
		RunRoot:            options.RunRoot,
		GraphDriverName:    driverName,
		GraphDriverOptions: driverOptions,
	})
}

// Close forgets the store. Root filesystems stay mounted: containers go on without
// the daemon.
func (s *Store) Close() {
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
