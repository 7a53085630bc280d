package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/selinux/go-selinux"
	drivers "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/idtools"
	"golang.org/x/sys/unix"
)

// layers are the writable layers on top of images: those of root filesystems and those of
// volumes. Each is a record, a directory of the graph driver and a mount.
//
// The library has no records of them. For each it would write its indexes ten times and sync
// six of these, under locks for which all others wait; with eight containers at a time, seven
// eighths of their time were such waits. What the library must know is that the image is
// needed: see holds.
type layers struct {
	*disk
	driver  *writableDriver
	holds   *holds
	library *libraryLayers
	removed *removedLayers
	turns   *turns
}

// layerRequest says what a layer is made from.
type layerRequest struct {
	// name is the record's, and id the directory's.
	name, id, imageID string
	// record is kept as it is.
	record any
	label  string
	users  IDMaps
}

// mountLabel is the SELinux label of the layer's files as they are mounted. Where SELinux is used,
// what has none gets that of files that no other container may use. Labels can be had from the files
// of a policy, too, which the kernel refuses where it is not in force.
func (r layerRequest) mountLabel() string {
	if !selinux.GetEnabled() {
		return r.label
	}
	return cmp.Or(r.label, selinux.PrivContainerMountLabel())
}

// create makes a layer, in place of whatever an earlier try left. It removes its own when it
// fails.
func (l *layers) create(ctx context.Context, request layerRequest) error {
	err := l.tryCreate(ctx, request)
	if IsFull(err) && l.removed.unlink(ctx) {
		// Layers that were removed a moment ago had the room.
		err = l.tryCreate(ctx, request)
	}
	return err
}

func (l *layers) tryCreate(ctx context.Context, request layerRequest) error {
	if err := l.remove(ctx, request.name, request.id); err != nil {
		return err
	}
	if err := l.tryCreateAnew(request); err != nil {
		return errors.Join(err, l.remove(ctx, request.name, request.id))
	}
	return nil
}

// tryCreateAnew first writes the record, under the name of one that is being made: from then on
// the image is needed, and whoever removes it finds out why.
func (l *layers) tryCreateAnew(request layerRequest) error {
	made, err := l.announce(request.name, request.record)
	if err != nil {
		return err
	}
	parent, err := l.holds.hold(request.imageID)
	if err != nil {
		return err
	}
	options := &drivers.CreateOpts{MountLabel: request.mountLabel(), IDMappings: &idtools.IDMappings{}}
	if err := l.driver.CreateReadWrite(request.id, parent, options); err != nil {
		return fmt.Errorf("create its layer: %w", err)
	}
	return l.holds.locked(unix.LOCK_SH, made)
}

// mount mounts a layer unless it is mounted, and returns where.
func (l *layers) mount(request layerRequest) (string, error) {
	mountpoint := l.layout.rootfsMount(request.id)
	mounted, err := l.isMounted(mountpoint)
	if err != nil {
		return "", err
	}
	if !mounted || !l.layout.mounts() {
		options := drivers.MountOpts{
			MountLabel: request.mountLabel(), UidMaps: libraryMaps(request.users.UIDs), GidMaps: libraryMaps(request.users.GIDs),
			// No container survives a power failure.
			Volatile: !l.syncs,
		}
		if mountpoint, err = l.driver.mount(request.id, options); err != nil {
			return "", fmt.Errorf("mount its layer: %w", err)
		}
	}
	if !l.layout.mounts() {
		return mountpoint, nil
	}
	// It also fails if nothing is mounted.
	if err := unix.Mount("", mountpoint, "", unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make the mount on %s private: %w", mountpoint, err)
	}
	return mountpoint, nil
}

// isMounted reports whether a root filesystem is usable at the path: mounted, or with a
// driver that doesn't mount, present.
func (d *disk) isMounted(path string) (bool, error) {
	if d.layout.mounts() {
		return isMountpoint(path)
	}
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// release undoes mount and create, as far as they got, also if an earlier version of Stele made
// the layer.
func (l *layers) release(ctx context.Context, name, id string) error {
	known, err := l.hasRecord(name)
	if err != nil {
		return err
	}
	if err := l.remove(ctx, name, id); err != nil || known {
		return err
	}
	return l.library.release(ctx, id)
}

// remove unmounts a layer and removes it, with its record. The mount is undone by path: who
// counts mounts may have been killed.
func (l *layers) remove(ctx context.Context, name, id string) error {
	dir := l.layout.rootfsDir(id)
	switch _, err := os.Lstat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return l.forget(name)
	case err != nil:
		return err
	}
	if err := l.unmount(ctx, id); err != nil {
		return err
	}
	if err := l.freeing(func() error { return l.removed.add(dir, id) }); err != nil {
		return fmt.Errorf("remove its layer: %w", err)
	}
	return l.forget(name)
}

// removeLost removes layers without a record, which a power failure leaves: a record is older than
// its layer, and outlives it.
func (l *layers) removeLost(ctx context.Context) error {
	home := filepath.Dir(l.layout.rootfsDir("any"))
	entries, err := os.ReadDir(home)
	if err != nil {
		return fmt.Errorf("list writable layers: %w", err)
	}
	var names []string
	if err := l.holds.locked(unix.LOCK_EX, func() (err error) {
		names, err = l.recordNames()
		return err
	}); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, name := range names {
		known[layerOf(name)] = true
	}
	var failed error
	for _, entry := range entries {
		id := entry.Name()
		if known[id] || !wholeID.MatchString(id) {
			continue
		}
		mounted := false
		if l.layout.mounts() {
			mounted, err = isMountpoint(l.layout.rootfsMount(id))
		}
		if mounted {
			l.log.Error("the record of a root filesystem that is mounted is lost; it is left alone", "layer", id)
			continue
		}
		if err == nil {
			err = l.remove(ctx, id, id)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (l *layers) unmount(ctx context.Context, id string) error {
	mountpoint := l.layout.rootfsMount(id)
	lazily, err := unmount(ctx, mountpoint)
	if err != nil {
		return err
	}
	if lazily {
		l.log.Warn("a root filesystem was still in use when it was released", "container", id, "mountpoint", mountpoint)
	}
	return detachLower(l.layout.rootfsDir(id))
}

// detachLower detaches the image's layers from a container's directory, where the library has them
// while it mounts a root filesystem: a process that is killed then leaves them there, and who
// removed that directory would remove the files of the image.
func detachLower(dir string) error {
	for _, lower := range lowerDirs {
		lower = filepath.Join(dir, lower)
		entries, err := os.ReadDir(lower)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look for layers of an image that are mounted: %w", err)
		}
		for _, entry := range entries {
			if err := detach(filepath.Join(lower, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
