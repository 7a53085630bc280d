package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	library "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
	"go.podman.io/storage/types"
)

// setAsideDamagedIndexes renames the two indexes that the library writes without
// syncing, if a power failure left garbage in them: the library would refuse to
// open the store. They list nothing but container layers, and no container
// survives a power failure. A damaged index of images is left alone and makes Open
// fail: a human should look at it.
func setAsideDamagedIndexes(settings types.StoreOptions, log *slog.Logger) error {
	for _, driver := range supportedDrivers {
		for _, path := range []string{
			filepath.Join(settings.GraphRoot, driver+"-layers", "volatile-layers.json"),
			filepath.Join(settings.GraphRoot, driver+"-containers", "volatile-containers.json"),
		} {
			if err := setAsideIfDamaged(path, log); err != nil {
				return fmt.Errorf("check an index: %w", err)
			}
		}
	}
	return nil
}

func setAsideIfDamaged(path string, log *slog.Logger) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (len(content) == 0 || json.Valid(content)) {
		return nil
	}
	if err != nil {
		return err
	}
	aside := path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set it aside, as it is damaged: %w", err)
	}
	log.Error("an index of container layers was damaged and has been set aside", "index", path, "kept", aside)
	return nil
}

// recover brings the store to a state in which nothing is half made: the library
// removes layers that were being written when a process died (it marks them before
// it begins), then files that no record mentions, then layers that no image or
// container has needed for a while.
//
// All of this trusts the index of layers. If an image's layers are missing from
// it, the index has lost records, and what looks like rubbish may be what it lost:
// then nothing is removed, the damage is reported, and the next pull of the image
// writes its layers and records again.
func (s *Store) recover() error {
	records, err := s.lib.MultiList(library.MultiListOptions{Images: true, Layers: true})
	if err != nil {
		return fmt.Errorf("read its records: %w", err)
	}
	if damaged := imagesWithoutLayers(records); len(damaged) > 0 {
		s.log.Error("the image store has lost layers of some images; nothing is cleaned up until they are pulled again",
			"images", damaged, "store", s.layout.graphRoot)
		return nil
	}
	if err := s.lib.GarbageCollect(); err != nil {
		s.log.Warn("not everything that a crash left in the image store could be removed",
			"store", s.layout.graphRoot, "error", err)
	}
	if err := removeUnfinishedIndexes(s.layout); err != nil {
		s.log.Warn("index files that a crash left unfinished in the image store could not be removed",
			"store", s.layout.graphRoot, "error", err)
	}
	for _, root := range s.layout.writableRoots() {
		if err := removeDanglingLinks(filepath.Join(s.layout.driverDir(root), linksDir)); err != nil {
			s.log.Warn("links that a crash left in the image store could not be removed", "store", root, "error", err)
		}
	}
	_, err = s.CollectOrphans(context.Background(), s.options.OrphanGrace)
	return err
}

// removeUnfinishedIndexes removes what a process that died was writing next to an
// index, to take its place. Another process may be writing one right now: the
// index's own lock keeps it from doing so meanwhile.
func removeUnfinishedIndexes(l layout) error {
	type index struct{ dir, lock string }
	indexes := []index{{l.records(l.runRoot, "layers"), "mountpoints.lock"}}
	for _, root := range l.writableRoots() {
		for _, kind := range []string{"images", "layers", "containers"} {
			indexes = append(indexes, index{l.records(root, kind), kind + ".lock"})
		}
	}
	for _, index := range indexes {
		unfinished, err := filepath.Glob(filepath.Join(index.dir, ".tmp-*.json*"))
		if err != nil {
			return err
		}
		if len(unfinished) == 0 {
			continue
		}
		lock, err := lockfile.GetLockFile(filepath.Join(index.dir, index.lock))
		if err != nil {
			return err
		}
		lock.Lock()
		for _, path := range unfinished {
			// Its writer may have finished before we got the lock.
			if removeErr := os.Remove(path); !errors.Is(removeErr, os.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
		lock.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func imagesWithoutLayers(records library.MultiListResult) []string {
	parents := make(map[string]string, len(records.Layers))
	for _, layer := range records.Layers {
		parents[layer.ID] = layer.Parent
	}
	var damaged []string
	for _, image := range records.Images {
		for id := image.TopLayer; id != ""; id = parents[id] {
			if _, known := parents[id]; !known {
				damaged = append(damaged, image.ID)
				break
			}
		}
	}
	return damaged
}

// CollectRootfses releases, at the start of a boot, the root filesystems of containers that
// nobody knows, and says of which. A removal is not synced: if the node loses power right
// after one, the files, or the library's record of them, may be there again. What is
// mounted was made in this boot, by whoever shares the store, and is left alone.
func (s *Store) CollectRootfses(ctx context.Context, known func(id string) bool) (released []string, err error) {
	ids, err := s.Rootfses(ctx)
	if err != nil {
		return nil, err
	}
	volumes, err := s.volumes()
	if err != nil {
		return nil, err
	}
	for _, volume := range volumes {
		ids = append(ids, volume.ContainerID)
	}
	slices.Sort(ids)
	var failed error
	for _, id := range slices.Compact(ids) {
		if known(id) {
			continue
		}
		mounted, err := s.isMounted(s.layout.rootfsMount(id))
		if mounted {
			continue
		}
		if err == nil {
			err = s.ReleaseRootfs(ctx, id)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		released = append(released, id)
	}
	return released, failed
}

// CollectOrphans removes layers that are older than the given age and that no
// image, container or name refers to, and says how many. Such layers come from
// pulls that were cut off, and from a removal that was. It does nothing while a
// pull is under way, which may be about to use them. Of pulls that filled the disk it
// removes also younger ones: see BeginPull.
func (s *Store) CollectOrphans(ctx context.Context, age time.Duration) (removed int, err error) {
	full, may := s.pulls.tryCollect()
	if !may {
		return 0, nil
	}
	defer func() { s.pulls.doneCollecting(err == nil) }()
	records, err := s.lib.MultiList(library.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return 0, fmt.Errorf("collect orphaned layers: read the records: %w", err)
	}
	for _, id := range orphans(records, lifetime{before: s.now().Add(-age), since: full}) {
		if ctx.Err() != nil {
			return removed, fmt.Errorf("collect orphaned layers: %w", ctx.Err())
		}
		// DeleteLayer looks again, under the store's locks, whether it is needed.
		if err := s.freeing(func() error { return s.lib.DeleteLayer(id) }); err != nil {
			s.log.Debug("an orphaned layer was not removed", "layer", id, "error", err)
			continue
		}
		removed++
	}
	if removed > 0 {
		s.removeLostLinks()
	}
	return removed, nil
}

// A lifetime says when layers were made that may be collected: before a time, or also
// since another, unless that is zero.
type lifetime struct{ before, since time.Time }

func (l lifetime) has(created time.Time) bool {
	return !created.After(l.before) || !l.since.IsZero() && !created.Before(l.since)
}

// orphans lists layers that nothing needs, children before their parents.
func orphans(records library.MultiListResult, made lifetime) []string {
	layers := make(map[string]*library.Layer, len(records.Layers))
	for i := range records.Layers {
		layers[records.Layers[i].ID] = &records.Layers[i]
	}
	needed := map[string]bool{}
	need := func(id string) {
		for id != "" && !needed[id] {
			needed[id] = true
			if layer := layers[id]; layer != nil {
				id = layer.Parent
			} else {
				return
			}
		}
	}
	for _, image := range records.Images {
		need(image.TopLayer)
		for _, mapped := range image.MappedTopLayers {
			need(mapped)
		}
	}
	for _, container := range records.Containers {
		need(container.LayerID)
	}
	for id, layer := range layers {
		if layer.ReadOnly || len(layer.Names) > 0 || layer.MountCount > 0 || !made.has(layer.Created) {
			need(id)
		}
	}
	var ordered []string
	var visit func(id string)
	children := map[string][]string{}
	for id, layer := range layers {
		children[layer.Parent] = append(children[layer.Parent], id)
	}
	visit = func(id string) {
		for _, child := range children[id] {
			visit(child)
		}
		if !needed[id] {
			ordered = append(ordered, id)
		}
	}
	for id, layer := range layers {
		if !needed[id] && (layer.Parent == "" || needed[layer.Parent] || layers[layer.Parent] == nil) {
			visit(id)
		}
	}
	return ordered
}
