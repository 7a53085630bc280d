package storage

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	drivers "go.podman.io/storage/drivers"
)

// mountsOfADriver is after how many mounts a driver is replaced: it counts the mounts of each
// path, and forgets none that is unmounted without it. Some hundred bytes each; another driver takes
// 30 µs to open.
const mountsOfADriver = 128

// A writableDriver is the graph driver that makes writable layers, in a root of its own. The
// images' roots are additional stores to it, of which it only reads.
type writableDriver struct {
	log     *slog.Logger
	open    func() (drivers.Driver, error)
	current atomic.Pointer[openDriver]
}

type openDriver struct {
	drivers.Driver
	mounts atomic.Int64
	first  sync.Once
}

func newWritableDriver(d *disk) (*writableDriver, error) {
	options := slices.Clone(d.lib.GraphOptions())
	for _, root := range d.layout.writableRoots() {
		options = append(options, d.layout.driver+".imagestore="+root)
	}
	if d.layout.mounts() {
		// Each root filesystem is made private by itself.
		options = append(options, d.layout.driver+".skip_mount_home=true")
	}
	w := &writableDriver{log: d.log, open: func() (drivers.Driver, error) {
		// To open a driver changes variables of its package, as to open a store does.
		librarySessions.Lock()
		defer librarySessions.Unlock()
		driver, err := drivers.New(d.layout.driver, drivers.Options{
			Root: d.layout.writableRoot(), RunRoot: d.layout.runRoot, DriverOptions: options,
		})
		if err != nil {
			return nil, fmt.Errorf("open the graph driver in %s: %w", d.layout.writableRoot(), err)
		}
		driver.SupportsShifting(nil, nil) // see openLibrary
		return driver, nil
	}}
	driver, err := w.open()
	if err != nil {
		return nil, err
	}
	w.current.Store(&openDriver{Driver: driver})
	return w, nil
}

// CreateReadWrite makes a layer's directory.
func (w *writableDriver) CreateReadWrite(id, parent string, options *drivers.CreateOpts) error {
	return w.current.Load().CreateReadWrite(id, parent, options)
}

// mount mounts a layer that is not mounted.
func (w *writableDriver) mount(id string, options drivers.MountOpts) (string, error) {
	driver := w.current.Load()
	if driver.mounts.Add(1)%mountsOfADriver == 0 {
		next, err := w.open()
		if err != nil {
			w.log.Warn("the graph driver is kept, with what it counts, since another could not be opened", "error", err)
		} else {
			w.current.Store(&openDriver{Driver: next})
		}
	}
	return driver.mount(id, options)
}

// mount has the first mount alone: it finds out what the kernel can do, and writes it down
// without a lock.
func (d *openDriver) mount(id string, options drivers.MountOpts) (path string, err error) {
	isFirst := false
	d.first.Do(func() {
		isFirst = true
		path, err = d.Get(id, options)
	})
	if isFirst {
		return path, err
	}
	return d.Get(id, options)
}
