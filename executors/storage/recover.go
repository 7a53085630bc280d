package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	library "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
	"go.podman.io/storage/types"
)

// setAsideDamagedIndexes renames the two indexes that the library writes without syncing,
// if a power failure left garbage in them: the library would refuse to open the store. They
// list only container layers, and no container survives a power failure. A damaged index of
// images is left alone and makes Open fail: that needs a human.
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

// recover removes what is half made: layers that were being written when a process died
// (the library marks them first), then files that no record mentions, then layers that no
// image or container has needed for a while.
//
// All of this trusts the index of layers. If an image's layers are missing from it, the
// index has lost records, and apparent garbage may be what it lost: then nothing is
// removed, the damage is logged, and the next pull of the image writes its layers and
// records again.
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
	if err := detachAllLower(s.layout); err != nil {
		s.log.Error("nothing that a crash left in the image store is removed: an image's files could go with it", "error", err)
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
	if err := s.recoverWritable(); err != nil {
		s.log.Warn("not everything that a crash left of containers' layers could be removed", "store", s.layout.graphRoot, "error", err)
	}
	_, err = s.Images.CollectOrphans(context.Background(), s.options.OrphanGrace)
	return err
}

// recoverWritable holds what images containers need, removes what is left of layers without a record, as a
// power failure leaves them, and unlinks what was removed.
func (s *Store) recoverWritable() error {
	ctx := context.Background()
	err := errors.Join(s.holds.settle(ctx), s.Rootfses.layers.removeLost(ctx))
	if s.layout.mounts() {
		err = errors.Join(err, removeDanglingLinks(filepath.Join(s.layout.driverDir(s.layout.writableRoot()), linksDir)))
	}
	s.removed.unlinkSoon()
	return err
}

// removeUnfinishedIndexes removes new versions of an index whose writer died. Another
// process may be writing one right now: the index's lock excludes it.
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
			// Its writer may have finished before the lock was free.
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
