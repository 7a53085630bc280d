package executors

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/spec"
)

// Handler is a runtime handler. A runtime that is missing, or hangs, makes this handler unusable
// and nothing else, until it is there.
type Handler struct {
	// Options are what the node's administrator decides for containers of the handler.
	Options spec.Options
	// CreateTimeout is how long a creation may take; 0 for the monitor's default.
	CreateTimeout time.Duration
	// Platforms are the programs for images of other platforms, by OS/ARCHITECTURE, with the same
	// options; only what they are is asked of these.
	Platforms map[string]*Handler
	// Changed is called by Follow with why the runtime cannot be used, or nil once it can. It may
	// be nil.
	Changed func(problem error)

	program string
	open    func(context.Context) (*oci.Driver, error)

	known atomic.Pointer[runtimeKnown]
	// answered is closed once anything is known.
	answered  chan struct{}
	firstTime sync.Once
}

// runtimeKnown is what a runtime has said of itself.
type runtimeKnown struct {
	// driver is that of the last good answer; nil if there was none.
	driver *oci.Driver
	// problem is why the runtime cannot be used now; nil if it can.
	problem error
}

const (
	// lookEvery is the time between two looks at a runtime's program.
	lookEvery = 5 * time.Second
	// askEvery is how old the answer of a program that has not changed may become. Behind a
	// script there may be another program.
	askEvery = time.Minute
	// askWithin bounds how long a runtime may take to say what it is.
	askWithin = 10 * time.Second
)

var (
	errNotAsked  = errors.New("its runtime has not been asked yet")
	errUnwatched = errors.New("nobody asks its runtime any more")
)

// NewHandler returns a handler for a program, absolute or to be found in PATH, which open asks
// what it is. Follow must run.
func NewHandler(program string, open func(context.Context) (*oci.Driver, error)) *Handler {
	return &Handler{program: program, open: open, answered: make(chan struct{})}
}

// Follow asks the runtime what it is, again and again, until ctx is done.
func (h *Handler) Follow(ctx context.Context) {
	defer h.learn(nil, errUnwatched)
	last := asked{}
	for {
		last = h.look(ctx, last)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// asked is when a program was asked, and what came of it.
type asked struct {
	program programID
	at      time.Time
	err     error
}

// look asks the runtime if its program has changed, did not answer, or has not been asked for long.
func (h *Handler) look(ctx context.Context, last asked) asked {
	program := identify(h.program)
	if program == last.program && last.err == nil && time.Since(last.at) < askEvery {
		return last
	}
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	driver, err := h.open(asking)
	if ctx.Err() != nil {
		return last
	}
	// On a busy node a good program may fail to answer in time, once.
	if err == nil || last.err != nil || last.at.IsZero() || program != last.program {
		h.learn(driver, err)
	}
	return asked{program, time.Now(), err}
}

// learn takes an answer. The driver of the last good one stays: what runs can be ended without
// the program.
func (h *Handler) learn(driver *oci.Driver, problem error) {
	before := h.known.Load()
	now := &runtimeKnown{driver, problem}
	if before != nil && driver == nil {
		now.driver = before.driver
	}
	h.known.Store(now)
	h.firstTime.Do(func() { close(h.answered) })
	if h.Changed != nil && text(problem) != text(before.trouble()) && !errors.Is(problem, errUnwatched) {
		h.Changed(problem)
	}
}

// trouble is why the runtime cannot be used; nil also if nothing is known yet.
func (k *runtimeKnown) trouble() error {
	if k == nil {
		return nil
	}
	return k.problem
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Answered is closed when the runtime has answered for the first time, or did not in time.
func (h *Handler) Answered() <-chan struct{} { return h.answered }

// Usable says why the runtime cannot be used, as it was known last; nil if it can. It does not
// wait.
func (h *Handler) Usable() error {
	if k := h.known.Load(); k != nil {
		return k.problem
	}
	return errNotAsked
}

// Features returns what the runtime reports; nil if it cannot be used, or reports nothing.
func (h *Handler) Features() *features.Features {
	if k := h.known.Load(); k != nil && k.problem == nil {
		return k.driver.Features()
	}
	return nil
}

// Driver returns the runtime's driver, for what is there already. It waits for the first answer.
func (h *Handler) Driver() (*oci.Driver, error) {
	<-h.answered
	k := h.known.Load()
	if k.driver == nil {
		return nil, k.problem
	}
	return k.driver, nil
}

// programID tells whether a program is another: by its file, and the file's last change.
type programID struct {
	path     string
	dev, ino uint64
	size     int64
	changed  int64
}

// identify is zero for a program that is missing.
func identify(program string) programID {
	path, err := exec.LookPath(program)
	if err != nil {
		return programID{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return programID{}
	}
	id := programID{path: path, size: info.Size(), changed: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino, id.changed = stat.Dev, stat.Ino, stat.Ctim.Nano()
	}
	return id
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

// Usable says why a handler's runtime cannot be used, as it was known last; nil if it can. It
// does not wait.
func (all Handlers) Usable(name string) error {
	h, err := all.Find(name)
	if err != nil {
		return err
	}
	return unusable(name, h.Usable())
}

func unusable(name string, problem error) error {
	if problem == nil {
		return nil
	}
	return fault.New(fault.Unavailable, "use the OCI runtime", name, "runtime_handler: %v", problem)
}

func (all Handlers) driver(name string) (*oci.Driver, error) {
	h, err := all.Find(name)
	if err != nil {
		return nil, err
	}
	d, err := h.Driver()
	return d, unusable(name, err)
}
