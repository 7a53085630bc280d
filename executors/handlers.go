package executors

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/spec"
)

// Handler is a runtime handler. Its runtime is asked about itself when it is first used: one that
// is missing, or hangs, makes this handler unusable and nothing else, until it is there.
type Handler struct {
	// Options are what the node's administrator decides for containers of the handler.
	Options spec.Options
	// CreateTimeout is how long a creation may take; 0 for the monitor's default.
	CreateTimeout time.Duration
	// Open opens the driver.
	Open func(context.Context) (*oci.Driver, error)

	driver  atomic.Pointer[oci.Driver]
	failed  atomic.Pointer[failedOpen]
	opening atomic.Bool
}

// failedOpen is why a runtime could not be used, and when that was.
type failedOpen struct {
	err error
	at  time.Time
}

const (
	// openWithin bounds how long a runtime may take to say what it is.
	openWithin = 10 * time.Second
	// openAgain is how long a failure counts.
	openAgain = 5 * time.Second
)

// Driver returns the runtime's driver. Of many callers one waits for a runtime that hangs; the
// others get its last failure.
func (h *Handler) Driver() (*oci.Driver, error) {
	if d := h.driver.Load(); d != nil {
		return d, nil
	}
	last := h.failed.Load()
	first := h.opening.CompareAndSwap(false, true)
	if first {
		defer h.opening.Store(false)
	}
	if last != nil && (!first || time.Since(last.at) < openAgain) {
		return nil, last.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWithin)
	defer cancel()
	d, err := h.Open(ctx)
	if err != nil {
		h.failed.Store(&failedOpen{err, time.Now()})
		return nil, err
	}
	h.driver.CompareAndSwap(nil, d) // another call's is as good
	return h.driver.Load(), nil
}

// Handlers are the node's runtime handlers by their names.
type Handlers map[string]*Handler

// Names returns the names in their order.
func (all Handlers) Names() []string { return slices.Sorted(maps.Keys(all)) }

// Find returns a handler. It may have been removed from the configuration since the pod was made.
func (all Handlers) Find(name string) (*Handler, error) {
	if h, ok := all[name]; ok {
		return h, nil
	}
	return nil, fault.New(fault.Unavailable, "find the OCI runtime", name, "runtime_handler: it is no longer configured on this node")
}

// Usable says why a handler's runtime cannot be used; nil if it can.
func (all Handlers) Usable(name string) error {
	_, err := all.driver(name)
	return err
}

func (all Handlers) driver(name string) (*oci.Driver, error) {
	h, err := all.Find(name)
	if err != nil {
		return nil, err
	}
	d, err := h.Driver()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "use the OCI runtime", name, "runtime_handler: %v", err)
	}
	return d, nil
}
