package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup stays busy until shortly after its last process was reaped. Removal is
// retried after pauses that double: 1, 2, 4 … 1024 ms, two seconds in all; after
// that the effect is retried.
const (
	firstPause = time.Millisecond
	busyTries  = 12
)

// maxDepth bounds the walk through cgroups that a container made inside its own.
const maxDepth = 64

// RemoveSandbox removes the pod's own cgroup, with everything in it, from every
// hierarchy. A pod that was given a parent has none of its own: its parent is the
// kubelet's. One that is gone is success; one with processes in it is an error.
func (m *Manager) RemoveSandbox(ctx context.Context, parent, sandboxID string) error {
	if parent != "" || m.driver == Systemd {
		return nil
	}
	if err := validateID(sandboxID); err != nil {
		return fmt.Errorf("remove sandbox cgroup: %w", err)
	}
	return m.remove(ctx, m.sandboxPath(sandboxID))
}

// RemoveContainer kills what is left in a container's cgroup and removes it
// from every hierarchy. cgroupsPath is what ContainerPath returned for id; one
// that doesn't name id is refused.
func (m *Manager) RemoveContainer(ctx context.Context, cgroupsPath, id string) error {
	rel, err := m.containerRelative(cgroupsPath, id)
	if err != nil {
		return fmt.Errorf("remove container cgroup: %w", err)
	}
	if m.removeEmpty(rel) {
		return nil
	}
	for _, h := range m.node.Hierarchies {
		if err := signalTree(h, filepath.Join(h.Mountpoint, rel), unix.SIGKILL); err != nil {
			return err
		}
	}
	if err := m.thaw(rel); err != nil {
		return fmt.Errorf("remove container cgroup: %w", err)
	}
	return m.remove(ctx, rel)
}

// removeEmpty removes the cgroup rel from the hierarchies in which it has neither processes nor
// cgroups of its own, and reports whether it is gone from all. That is the rule for a container that
// has ended, and the kernel looks for itself: reading first what is to be killed takes much longer.
func (m *Manager) removeEmpty(rel string) bool {
	gone := true
	for _, h := range m.node.Hierarchies {
		err := unix.Rmdir(filepath.Join(h.Mountpoint, rel))
		gone = gone && (err == nil || err == unix.ENOENT)
	}
	return gone
}

// Signal sends sig to every process in a container's cgroup and the cgroups below
// it. A cgroup that is gone has no processes. It can miss processes that fork
// meanwhile, except with SIGKILL on v2, which the kernel sends to all. After SIGKILL the
// processes are thawed; it fails if a cgroup above keeps them frozen, and so alive.
func (m *Manager) Signal(cgroupsPath, id string, sig unix.Signal) error {
	rel, err := m.containerRelative(cgroupsPath, id)
	if err != nil {
		return fmt.Errorf("signal container cgroup: %w", err)
	}
	for _, h := range m.node.Hierarchies {
		if m.node.Layout != V2 && h.Unified {
			continue
		}
		if _, err := os.Stat(filepath.Join(h.Mountpoint, rel)); err == nil {
			// Every hierarchy has the same processes: one is enough.
			err = signalTree(h, filepath.Join(h.Mountpoint, rel), sig)
			if err == nil && sig == unix.SIGKILL {
				err = m.thaw(rel)
			}
			return err
		}
	}
	return nil
}

// RemoveRoot removes the cgroup under which pods without a parent live, if it is
// empty. It is for a daemon that is to leave nothing behind; a pod that another
// daemon starts at this moment can fail.
func (m *Manager) RemoveRoot() error {
	if m.driver == Systemd {
		return nil
	}
	var errs []error
	for _, h := range m.node.Hierarchies {
		err := unix.Rmdir(filepath.Join(h.Mountpoint, m.root))
		if err != nil && err != unix.ENOENT && err != unix.EBUSY && err != unix.ENOTEMPTY {
			errs = append(errs, &fs.PathError{Op: "rmdir", Path: filepath.Join(h.Mountpoint, m.root), Err: err})
		}
	}
	return errors.Join(errs...)
}

// containerRelative returns the path of a container's cgroup below the mountpoints.
// It refuses one whose last element does not name the container.
func (m *Manager) containerRelative(cgroupsPath, id string) (string, error) {
	if err := validateID(id); err != nil {
		return "", err
	}
	rel, err := relative(cgroupsPath)
	if err != nil {
		return "", err
	}
	if path.Clean(rel) != rel {
		return "", fmt.Errorf("cgroups path %q: not clean", cgroupsPath)
	}
	if base := path.Base(rel); base != leaf(id) && base != leaf(id)+".scope" {
		return "", fmt.Errorf("cgroups path %q: does not belong to %s", cgroupsPath, id)
	}
	return rel, nil
}

// remove removes the cgroup rel and all below it from every hierarchy.
func (m *Manager) remove(ctx context.Context, rel string) error {
	pause := firstPause
	for try := 1; ; try++ {
		var errs []error
		busy := false
		for _, h := range m.node.Hierarchies {
			if err := rmdirAll(filepath.Join(h.Mountpoint, rel), 0); err != nil {
				busy = busy || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY)
				errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
			}
		}
		if !busy || try == busyTries {
			return errors.Join(errs...)
		}
		select {
		case <-ctx.Done():
			return errors.Join(append(errs, context.Cause(ctx))...)
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// rmdirAll removes a directory of a cgroup file system after its
// subdirectories. Its files go with it; on any other file system, a directory
// that has files is left alone, with an error.
func rmdirAll(dir string, depth int) error {
	// The common case first: nothing below it, or nothing there.
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EBUSY && err != unix.ENOTEMPTY {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	if depth == maxDepth {
		return fmt.Errorf("rmdir %s: more than %d levels deep", dir, maxDepth)
	}
	children, listErr := subdirectories(dir)
	if listErr != nil {
		return listErr
	}
	for _, child := range children {
		if err := rmdirAll(filepath.Join(dir, child), depth+1); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
