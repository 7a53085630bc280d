package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
)

// Bundle is what a container is created from.
type Bundle struct {
	ID string
	// Dir is the bundle's directory, absolute and of the container's own. It is
	// made if it isn't there.
	Dir  string
	Spec *specs.Spec
	// Hostname is the pod's, for a runtime that does not see it in the namespace.
	Hostname string
	// LogPath is the CRI log; empty drops the output.
	LogPath string
	// MaxLogSize in bytes; 0 for no limit.
	MaxLogSize                 int64
	Stdin, StdinOnce, Terminal bool
	// Deadline is how long the runtime may take; 0 for the monitor's default.
	Deadline time.Duration
	// Notifier answers the calls that the seccomp profile reports; nil for none.
	Notifier *monitor.Notifier
}

// Create has the runtime create a container, and returns its first process, which
// waits for Start. A container that the monitor has is returned as it is. What an
// interrupted try left in the runtime, and the monitor does not know, is deleted
// first.
func (d *Driver) Create(ctx context.Context, b Bundle) (monitor.Process, error) {
	if d.OwnKernel() {
		var err error
		if b.Spec, err = forOwnKernel(b); err != nil {
			return monitor.Process{}, err
		}
	}
	if err := writeConfig(b.Dir, b.Spec); err != nil {
		return monitor.Process{}, err
	}
	before, err := d.known(b.ID)
	if err != nil {
		return monitor.Process{}, err
	}
	process, err := d.create(ctx, b)
	if _, refused := errors.AsType[*monitor.RuntimeError](err); refused && before {
		if err := d.Delete(ctx, Container{ID: b.ID, Bundle: b.Dir}); err != nil {
			return monitor.Process{}, fmt.Errorf("delete what an earlier try left: %w", err)
		}
		process, err = d.create(ctx, b)
	}
	if err != nil {
		return monitor.Process{}, runtimeFault("create container", b.ID, err)
	}
	return process, nil
}

func (d *Driver) create(ctx context.Context, b Bundle) (monitor.Process, error) {
	log := filepath.Join(b.Dir, "create.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return monitor.Process{}, err
	}
	args := append(d.globalArgs(log), "create", "--bundle", b.Dir, "--pid-file", pidPath(b.Dir), b.ID)
	return d.monitor.Create(ctx, monitor.CreateRequest{
		ContainerID: b.ID,
		Runtime:     d.runtime.Path,
		Args:        args,
		PidFile:     pidPath(b.Dir),
		Env:         d.version.environment(),
		Bundle:      b.Dir,
		LogPath:     b.LogPath,
		MaxLogSize:  b.MaxLogSize,
		Stdin:       b.Stdin,
		StdinOnce:   b.StdinOnce,
		Terminal:    b.Terminal,
		Deadline:    b.Deadline,
		Owner:       ownerOf(b.Spec),
		Notifier:    b.Notifier,
	})
}

// runtimeFault says what the monitor's error means to the caller.
func runtimeFault(op, id string, err error) error {
	kind := fault.KindOf(err)
	failed, refused := errors.AsType[*monitor.RuntimeError](err)
	switch {
	case refused && failed.TimedOut, errors.Is(err, context.DeadlineExceeded):
		kind = fault.Deadline
	case errors.Is(err, monitor.ErrNotFound):
		kind = fault.Precondition
	case errors.Is(err, monitor.ErrUnimplemented):
		kind = fault.Unsupported
	case errors.Is(err, monitor.ErrLost), errors.Is(err, monitor.ErrClosed):
		kind = fault.Unavailable
	}
	reason := strings.TrimPrefix(err.Error(), op+" "+id+": ")
	if refused {
		reason = failed.Error()
	}
	return &callError{fault: &fault.Fault{Op: op, Kind: kind, Subject: id, Reason: reason}, cause: err}
}

// callError is a fault that keeps its cause.
type callError struct {
	fault *fault.Fault
	cause error
}

func (e *callError) Error() string   { return e.fault.Error() }
func (e *callError) Unwrap() []error { return []error{e.fault, e.cause} }
